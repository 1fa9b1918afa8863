"""What Tab offers, asked as the scripts for bash and zsh ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from specdiff_cli.cli import completion

PROGRAM = "import sys; sys.argv = ['specdiff']; from specdiff_cli.__main__ import main; main()"


def offered_by_bash(line: str) -> list[str]:
    """The words for the last word of a command line, which may be empty."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_SPECDIFF_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def offered_by_zsh(line: str) -> str:
    asked = {"_TYPER_COMPLETE_ARGS": line, "_SPECDIFF_COMPLETE": "complete_zsh"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_bash_completes_commands_options_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("song.mid", "sonata.KAR", "song.wav", ".song.mid"):
        Path(name).touch()
    assert offered_by_bash("specdiff ren") == ["render"]
    assert "--preset" in offered_by_bash("specdiff render --pre")
    assert offered_by_bash("specdiff render --model t") == ["tiny"]
    assert offered_by_bash("specdiff render --preset b") == ["balanced", "best"]
    assert offered_by_bash("specdiff render --sampler dd") == ["ddpm", "ddim"]
    assert offered_by_bash("specdiff render --device c") == ["cpu", "cuda"]
    assert offered_by_bash("specdiff render so") == ["sonata.KAR", "song.mid"]
    assert offered_by_bash("specdiff render song.mid -o ") == []  # so that the shell offers files


def test_zsh_completes_values_with_their_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert '"paper":"the setting of the paper' in offered_by_zsh("specdiff render --preset p")
    assert '"base":' in offered_by_zsh("specdiff render --model b")
    assert offered_by_zsh("specdiff render x").strip() == "_files"


def test_midi_files_where_nothing_else_can_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(incomplete: str) -> list[str]:
        return [name for name, _ in completion.midi_files(incomplete)]

    monkeypatch.chdir(tmp_path)
    Path("album").mkdir()
    for name in ("a.mid", "b.midi", "c.txt", "b b.rmi", ".h.mid", "album/x.mid"):
        Path(name).touch()
    assert names("a") == []  # a folder matches, too: only the shell completes it without a blank behind it
    assert names("a.") == ["a.mid"]
    assert names("b.") == ["b.midi"]
    assert names("b") == []  # one needs quoting
    assert names("c") == []
    assert names(".") == [".h.mid"]
    assert names("album/") == ["album/x.mid"]
    assert names(f"{tmp_path}/album/") == [f"{tmp_path}/album/x.mid"]
    assert names("nowhere/") == []


def test_a_broken_lock_offers_nothing_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from specdiff_cli.errors import WeightsError
    from specdiff_cli.weights import lock

    def broken() -> lock.Lock:
        raise WeightsError("weights.lock: is damaged")

    assert [name for name, _ in completion.models("")][:2] == ["tiny", "base"]
    monkeypatch.setattr(lock, "load_lock", broken)
    assert completion.models("") == []


def test_every_value_that_there_is_is_offered() -> None:
    from specdiff_cli.choices import DTYPES, VOCODERS, Format, Subtype
    from specdiff_cli.diffusion.presets import PRESETS
    from specdiff_cli.diffusion.samplers import SAMPLERS
    from specdiff_cli.diffusion.schedules import SCHEDULES

    for offer, names in (
        (completion.samplers, SAMPLERS),
        (completion.schedules, SCHEDULES),
        (completion.vocoders, VOCODERS),
        (completion.dtypes, DTYPES),
        (completion.formats, Format),
        (completion.subtypes, Subtype),
        (completion.presets, PRESETS),
    ):
        assert {name for name, _ in offer("")} == set(names)


def test_no_tab_waits_for_pytorch() -> None:
    code = (
        "import sys; from specdiff_cli.cli import app, completion as c; c.models(''), c.presets(''), c.midi_files('')"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*{{'torch', 'numpy', 'scipy'}} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
