"""Settings files: what they may hold, and one line for everything else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from specdiff_cli.errors import ExitCode, UsageError
from specdiff_cli.train.settings import read_settings


@dataclass(frozen=True)
class Sizes:
    width: int
    shape: Literal["round", "square"] = "round"


@dataclass(frozen=True)
class Hyper:
    rate: float = 0.5
    n_steps: int = 10
    fast: bool = False
    name: str = "x"
    rates: tuple[float, ...] = (1.0, 2.0)
    pair: tuple[int, int] = (1, 2)
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError(f"n_steps = {self.n_steps}: must be at least 1")


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, {"model": Sizes, "train": Hyper})


def test_values_take_their_types_and_missing_ones_their_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, '[model]\nwidth = 3\nshape = "square"\n[train]\nrate = 2\nrates = [1, 0.25]\nlimit = 4\n')
    assert settings == {"model": Sizes(3, "square"), "train": Hyper(rate=2.0, rates=(1.0, 0.25), limit=4.0)}
    assert type(settings["train"].rate) is float
    assert read(tmp_path, "[model]\nwidth = 1")["train"] == Hyper()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 3", r"\[width\]: is an unknown key; it may have \[model\], \[train\]"),
        ("[trian]\n", r"\[trian\]: is an unknown table; did you mean \[train\]\?"),
        ("[train]\nn_stpes = 3", r"\[train\] n_stpes: is an unknown key; did you mean n_steps\?"),
        ("[train]\nzzz = 3", r"\[train\] zzz: is an unknown key; known keys are rate, n_steps"),
        ("[train]\nn_steps = 3.0", r"\[train\] n_steps = 3.0: must be a whole number"),
        ("[train]\nn_steps = true", r"\[train\] n_steps = true: must be a whole number"),
        ("[train]\nrate = '3'", r'\[train\] rate = "3": must be a number'),
        ("[train]\nrate = nan", r"\[train\] rate = nan: must be a number"),
        ("[train]\nfast = 1", r"\[train\] fast = 1: must be true or false"),
        ("[train]\nname = 1", r"\[train\] name = 1: must be a text"),
        ("[train]\nrates = 1", r"\[train\] rates = 1: must be a list"),
        ("[train]\nrates = ['a']", r"\[train\] rates = \['a'\]: must be a number"),
        ("[train]\npair = [1]", r"\[train\] pair = \[1\]: must be a list of 2 items; it has 1"),
        ("[train]\nlimit = 'no'", r'\[train\] limit = "no": must be a number'),
        ("[train]\nn_steps = 0", r"\[train\] n_steps = 0: must be at least 1"),
        ("[model]\nwidth = 1\nshape = 'oval'", r'\[model\] shape = "oval": is not one of "round", "square"'),
        ("[train]\n", r"\[model\] width: is missing; add it"),
        ("model = 3", r"\[model\]: must be a table"),
        ("[train\n", r"is not valid TOML \(.*line 1.*\)"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    if "[model]" not in text and "width: is missing" not in message and text.startswith("[train]"):
        text += "\n[model]\nwidth = 1\n"
    with pytest.raises(UsageError, match=rf"run\.toml: {message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: does not exist; check the name"):
        read_settings(tmp_path / "none.toml", {})
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        read_settings(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_settings(tmp_path / "latin.toml", {})
