"""What names of instruments and channels mean."""

import pytest

from specdiff_cli.midi.instruments import FAMILIES, Part, find_instrument, name_parts
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class


@pytest.mark.parametrize(
    ("text", "programs", "goal"),
    [
        ("cello", [42], 42),
        ("Cello", [42], 42),
        (" CELLO ", [42], 42),
        ("acoustic-grand-piano", [0], 0),
        ("Acoustic_Guitar (nylon)", [24], 24),
        ("acoustic piano", [0, 1, 2, 3], 0),
        ("electric piano", [4, 5, 6, 7], 4),
        ("piano", [0, 1, 2, 3], 0),
        ("strings", [40, 41, 42, 43, 44, 45, 48, 49, 50, 51], 48),
        ("brass", list(range(56, 64)), 61),
        ("56", [56], 56),
        ("0", [0], 0),
        ("127", [127], 127),
        ("harp", [46], 46),  # a word of one class, not the beginning of harpsichord
        ("nylon", [24], 24),
        ("xylo", [13], 13),
        ("honky", [3], 3),
        ("clarinet", [71], 71),  # General MIDI's, not the class that has the piccolo, too
    ],
)
def test_names_of_instruments(text: str, programs: list[int], goal: int) -> None:
    found = find_instrument(text)
    assert (sorted(found.programs), found.program, found.channel, found.is_drums) == (programs, goal, None, False)


@pytest.mark.parametrize(("text", "channel"), [("ch1", 0), ("CH 10", 9), ("channel-16", 15), ("ch01", 0)])
def test_channels_count_from_one(text: str, channel: int) -> None:
    assert find_instrument(text).channel == channel
    assert find_instrument(text).picks(Part(40, channel, is_drum=True))
    assert not find_instrument(text).picks(Part(40, channel + 1, is_drum=False))


def test_drums_are_no_program() -> None:
    kit = Part(0, 9, is_drum=True)
    assert find_instrument("drums").picks(kit)
    assert not find_instrument("drums").picks(Part(0, 9, is_drum=False))
    assert not find_instrument("piano").picks(kit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chello", "no instrument is called 'chello'; did you mean cello?"),
        ("zzz", "no instrument is called 'zzz'"),
        ("", "no instrument is called ''"),
        ("?", "no instrument is called '?'"),
        ("horn", "'horn' can mean french horn or english horn"),
        ("vio", "'vio' can mean violin or viola"),
        ("fx", "'fx' can mean fx 1 rain, fx 2 soundtrack, fx 3 crystal, fx 4 atmosphere ..."),
        ("128", "there is no program 128; they are 0 to 127 (a channel is written ch1)"),
        ("9" * 5000, "there is no program 999999999; they are 0 to 127 (a channel is written ch1)"),
        ("ch0", "there is no channel 0; they are ch1 to ch16"),
        ("ch17", "there is no channel 17; they are ch1 to ch16"),
    ],
)
def test_what_is_no_name_or_several(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_instrument(text)
    assert str(caught.value) == message


def test_every_name_that_inspect_midi_shows_is_understood() -> None:
    for program, name in enumerate(GM_NAMES):
        assert find_instrument(name).programs == {program}, name
        assert find_instrument(name.lower().replace(" ", "-")).program == program
    for first, name in MODEL_CLASSES.items():
        found = find_instrument(name)
        assert first in found.programs, name
        if name.title() not in GM_NAMES:
            assert found.programs == {program for program in range(128) if model_class(program) == first}, name


def test_every_family_holds_the_instrument_that_stands_for_it() -> None:
    for name, (programs, program) in FAMILIES.items():
        assert program in programs
        assert find_instrument(name).program == program


def test_parts_are_named_once_and_not_endlessly() -> None:
    parts = [Part(0, 0, False), Part(0, 1, False), Part(3, 9, True), Part(42, 2, False)]
    assert name_parts(parts) == "Acoustic Grand Piano, drums, Cello"
    many = name_parts([Part(program, 0, False) for program in range(128)])
    assert many.endswith(" and 116 more")
    assert many.count(",") == 11
