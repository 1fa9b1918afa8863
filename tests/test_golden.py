"""What the command line says, word for word: every ``--help``, every ``--json``, and what it answers to misuse.

The words are in ``tests/golden``. After a change that is meant, write them again and read the difference:

    python -m pytest tests/test_golden.py --update-golden && git diff tests/golden
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import specdiff
from midi_files import midi_bytes, note, program
from typer.testing import Result

import specdiff_cli
from specdiff_cli.cli.app import app, run

GOLDEN = Path(__file__).parent / "golden"
SCREEN = {"COLUMNS": "100", "TERM": "dumb"}
#: Values that depend on the machine, the clock, the weights or the release; of numbers with a fraction all but a few.
VOLATILE = re.compile(
    r"clipped_samples|.*(sha256|bytes|version|torch|machine|processor|threads|made_at|specdiff|meets|_flops|n_keys)"
)
DETERMINED = {"duration_s", "start_s", "end_s", "guidance", "guidance_interval", "value", "gain", "max_seconds"}

JSON_CALLS = (
    "models --json",
    "models show tiny --json",
    "models show base --json",
    "models show voice --json",
    "download-weights --list --json",
    "inspect-midi song.mid --json",
    "inspect-midi song.mid broken.mid --json",
    "inspect-wav sound.wav --json",
    "render song.mid broken.mid -m voice --device cpu -o out --json --fail-fast -q",
    "render song.mid -m voice --device cpu -o out/song.wav --json --skip-existing",
    "render song.mid -m voice --device cpu --json --dry-run",
    "render song.mid -m voice --device cpu --json --stems -o stems.wav",
    "convert diffusers voice-of-it --json --name mine",
    "benchmark --model voice --seconds 3 --device cpu --json",
    "evaluate voice --midi song.mid --json --no-transcriber --device cpu -q",
)


def words_of(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield before
    for name, command in getattr(group, "commands", {}).items():
        yield from words_of(command, *before, name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voice: str) -> Path:
    """A current folder with a song, a broken one, a sound and two voices."""
    from random_voices import write_diffusers_folder

    monkeypatch.chdir(tmp_path)
    song = midi_bytes([program(0, 0, 0), *note(0, 960, 0, 60), *note(960, 1440, 0, 64), *note(0, 480, 9, 38)])
    Path("song.mid").write_bytes(song)
    Path("broken.mid").write_bytes(b"MThd")
    Path("empty").mkdir()
    Path("voice").symlink_to(voice)
    Path("voice-of-today.toml").write_text('steps = 0\nsampler = "euler"\n')
    write_diffusers_folder(tmp_path / "diffusers")
    return tmp_path


def call(line: str) -> Result:
    return specdiff(*shlex.split(line), env=SCREEN)


def agree(name: str, said: str, request: pytest.FixtureRequest) -> None:
    """Compare with ``tests/golden/name``, or write it."""
    path = GOLDEN / name
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(said, encoding="utf-8")
    assert said == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", list(words_of(typer.main.get_command(app))), ids=lambda words: "-".join(words))
def test_help(words: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    result = call(" ".join([*words, "--help"]))
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    agree(f"help/{'-'.join(['specdiff', *words])}.txt", "\n".join(lines).strip() + "\n", request)


def normalised(value: Any, key: str = "") -> Any:
    """JSON without what depends on the machine, the moment or the weights: their types stay."""
    if isinstance(value, dict) and key != "meets":
        return {name: normalised(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [normalised(item, key) for item in value]
    if VOLATILE.fullmatch(key) or (isinstance(value, float) and key not in DETERMINED):
        return None if value is None else f"<{type(value).__name__}>"
    if isinstance(value, str):
        return re.sub(r"\b[0-9a-f]{64}\b", "<sha256>", without_places(value))
    return value


def without_places(text: str) -> str:
    """The text with names for the folders of this test, of the cache and of the package."""
    places = {
        "folder": Path.cwd(),
        "cache": os.environ["SPECDIFF_CACHE"],
        "package": Path(specdiff_cli.__file__).parent,
    }
    for name, path in places.items():
        text = text.replace(str(path), f"<{name}>")
    return text.replace("python -m pytest.specdiff", "specdiff")


def test_json(folder: Path, request: pytest.FixtureRequest) -> None:
    import numpy as np
    import soundfile

    soundfile.write("sound.wav", np.sin(np.arange(16_000) * 0.1) / 2, 16_000, subtype="PCM_16")
    Path("song.wav").unlink(missing_ok=True)
    parts = []
    for line in JSON_CALLS:
        result = call(line)
        if "evaluate" in line:  # its reference, beside the song
            soundfile.write("song.wav", np.sin(np.arange(40_000) * 0.1) / 2, 16_000, subtype="PCM_16")
            result = call(line)
        text = result.stdout
        values = [json.loads(text)] if text.startswith("[") or "\n  " in text else map(json.loads, text.splitlines())
        told = [json.dumps(normalised(value), indent=1, sort_keys=True) for value in values]
        parts.append("\n".join([f"$ specdiff {line}", *told, f"exit code {result.exit_code}", ""]))
    agree("json.txt", "\n".join(parts), request)


def said_by(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and messages of the whole program, in which command lines that cannot be parsed end, too."""
    arguments = shlex.split(line)
    with monkeypatch.context() as patch:
        while "=" in arguments[0]:
            patch.setenv(*arguments.pop(0).split("=", 1))
        for name, value in SCREEN.items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            run()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


def test_misuse(
    folder: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tests/golden/misuse.txt``: a line with a prompt is a call; what follows is its exit code and its messages."""
    path = GOLDEN / "misuse.txt"
    calls = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("$ ")]
    parts = []
    for line in calls:
        code, messages = said_by(line, capsys, monkeypatch)
        parts.append(f"$ {line}\n{code}: {without_places(messages).rstrip()}\n")
    agree("misuse.txt", "\n".join(parts), request)
    assert {path.name for path in folder.iterdir()} == {
        "song.mid", "broken.mid", "empty", "voice", "voice-of-today.toml", "diffusers",
    }  # fmt: skip
