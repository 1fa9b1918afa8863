"""Errors carry what they say of options as data."""

import pickle

import pytest

from specdiff_cli.choices import check_choice, check_range
from specdiff_cli.cli.guard import shown
from specdiff_cli.cli.progress import flag_of, worded
from specdiff_cli.errors import DeviceError, Message, Option, UsageError, WeightsError, is_out_of_memory
from specdiff_cli.rendering.request import Request


def test_an_error_about_an_option_has_its_name_value_and_rule() -> None:
    error = DeviceError.of("dtype", "int8", "is for CPUs; use bfloat16, or ", Option("device", "cpu"))
    assert (error.option, error.value) == ("dtype", "int8")
    assert error.rule == "is for CPUs; use bfloat16, or device cpu"
    assert str(error) == "dtype int8: is for CPUs; use bfloat16, or device cpu"
    assert shown(error) == "--dtype int8: is for CPUs; use bfloat16, or --device cpu"


def test_an_error_that_begins_otherwise_can_blame_an_option_too() -> None:
    error = WeightsError("nobody: is no voice", option="model", value="nobody")
    assert (str(error), error.rule, error.option) == ("nobody: is no voice", "nobody: is no voice", "model")


@pytest.mark.parametrize(
    ("options", "blamed", "rule"),
    [
        ({"steps": 0}, ("steps", 0), "must be between 1 and 10000"),
        ({"fade_out": 2, "loop": True}, ("fade_out", None), "does not go with loop, which has no end"),
        ({"steps": "many"}, ("steps", "many"), "is 'many', expected a whole number"),
        ({"reader": "ears"}, ("reader", "ears"), "is not one of music, reference"),
    ],
)
def test_a_request_that_cannot_be_says_which_option_value_and_rule(
    options: dict[str, object], blamed: tuple[str, object], rule: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Request.of(options)
    assert (caught.value.option, caught.value.value) == blamed
    assert caught.value.rule == rule


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UsageError.of("sample_rate", 11_025, "is not one of 16000")))
    assert (type(error), error.option, error.value) == (UsageError, "sample_rate", 11_025)
    assert shown(error) == "--sample-rate 11025: is not one of 16000"


def test_numbers_are_shown_as_they_are_written() -> None:
    assert [str(Option("tail", value)) for value in (-1.0, 0.25, 3)] == ["tail -1", "tail 0.25", "tail 3"]
    assert (flag_of("output"), flag_of("overlap_frames")) == ("-o", "--overlap-frames")


def test_ranges_and_choices() -> None:
    check_range("batch", None, 1, 4)
    check_range("batch", 4, 1, 4)
    check_choice("sampler", "ddim", ("ddpm", "ddim"))
    with pytest.raises(UsageError, match="guidance nan: must be between 0 and 100"):
        check_range("guidance", float("nan"), 0, 100)
    with pytest.raises(UsageError, match="sampler euler: is not one of ddpm, ddim"):
        check_choice("sampler", "euler", ("ddpm", "ddim"))


def test_lines_that_are_no_errors_name_options_as_data_too() -> None:
    line = Message("a.mid: ", Message("3 samples clipped; ", Option("subtype", "float"), " keeps them"))
    assert line == "a.mid: 3 samples clipped; subtype float keeps them"
    for travelled in (line, pickle.loads(pickle.dumps(line))):
        assert worded(travelled) == "a.mid: 3 samples clipped; --subtype float keeps them"
    assert worded("as it is") == "as it is"


def test_values_with_blanks_are_quoted_as_a_shell_needs_them() -> None:
    assert shown(UsageError.of("only", "electric piano", "is missing")) == "--only 'electric piano': is missing"
    assert shown(UsageError.of("key", "", "is no key")) == "--key '': is no key"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("expected scalar type Float"), False),
        (ValueError("not enough memory of the song"), False),
    ],
)
def test_one_detector_of_exhausted_memory(error: BaseException, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory
