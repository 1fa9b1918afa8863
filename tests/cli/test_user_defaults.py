"""Where settings come from: command line, environment, user file, the voice's default, in this order."""

from pathlib import Path

import platformdirs
import pytest
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder
from typer.testing import Result

from specdiff_cli.cli.app import app
from specdiff_cli.errors import UsageError
from specdiff_cli.rendering.defaults import KEYS, config_path, read_defaults


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.mid").write_bytes(midi_bytes(note(0, 240, 0, 60)))
    write_voice_folder(tmp_path / "voice")
    path = tmp_path / "config.toml"
    monkeypatch.setenv("SPECDIFF_CONFIG", str(path))
    path.write_text('model = "voice"\nsteps = 5\nseed = 4\noutput-template = "{stem}.{steps}.{seed}.wav"\n')
    return path


def planned(*arguments: str) -> Result:
    return specdiff("render", "a.mid", "--dry-run", *arguments)


def test_the_order(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a.5.4.wav" in planned().stdout
    monkeypatch.setenv("SPECDIFF_STEPS", "6")
    assert "a.6.4.wav" in planned().stdout
    assert "a.7.4.wav" in planned("--steps", "7").stdout
    monkeypatch.delenv("SPECDIFF_STEPS")
    config.write_text("")
    result = planned("-m", "voice", "--output-template", "{stem}.{steps}.wav")
    assert "a.2.wav" in result.stdout  # the voice's own


def test_verbose_says_where_a_setting_comes_from(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_STEPS", "6")
    told = planned("--verbose").stderr
    assert "--steps 6: from SPECDIFF_STEPS" in told
    assert f"--seed 4: from {config}" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", "unknown key modle; did you mean model?"),
        ("output_template = 'x'", "unknown key output_template; did you mean output-template?"),
        ("colour = 'x'", "unknown key colour; known are model, preset, steps"),
        ("steps = 'many'", "steps is 'many', expected a whole number"),
        ("steps = 2.5", "steps is 2.5, expected a whole number"),
        ("seed = true", "seed is True, expected a whole number"),
        ("model = 3", "model is 3, expected a text"),
        ("tail = 'x'", "expected a number"),
        ("steps = ", "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_line_and_no_obstacle_to_help(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    result = planned()
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line
    assert str(config) in line
    assert specdiff("render", "--help").exit_code == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "nope", "; --model nope is from "),
        ("model", "base", "; --model base is from "),
        ("device", "cuad", "; --device cuad is from "),
        ("preset", "bst", "; --preset bst is from "),
        ("format", "aac", "; --format aac is from "),
        ("subtype", "pcm8", "; --subtype pcm8 is from "),
        ("max-duration", 0.1, "; --max-duration 0.1 is from "),
        ("vocoder", "mel", "; --vocoder mel is from "),
    ],
)
def test_an_error_about_a_setting_says_where_it_was_set(
    config: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str | float, message: str
) -> None:
    given = (f"--{key}", str(value))
    config.write_text("model = 'voice'")
    (bare,) = render_fails(*given)
    assert " is from " not in bare
    config.write_text(f"{key} = {value!r}\n" + ("" if key == "model" else "model = 'voice'\n"))
    (line,) = render_fails()
    assert line == f"{bare}{message}{config}"
    variable = "SPECDIFF_" + key.upper().replace("-", "_")
    monkeypatch.setenv(variable, str(value))
    (line,) = render_fails()
    assert line == f"{bare}{message}{variable}"


def render_fails(*arguments: str) -> list[str]:
    result = specdiff("render", "a.mid", "-o", "a.wav", "--quiet", *arguments)
    assert result.exit_code in (2, 3, 4)
    return result.stderr.splitlines()


def test_errors_about_something_else_do_not_mention_settings(config: Path) -> None:
    (line,) = render_fails("none.mid", "-o", "x.wav", "--max-duration", "0")
    assert line == "error: --max-duration 0: must be above 0 seconds"


def test_a_wrong_variable_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_CONFIG", "missing.toml")
    result = planned()
    assert result.exit_code == 2
    assert "SPECDIFF_CONFIG: missing.toml: no such file" in result.stderr


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECDIFF_CONFIG")
    assert config_path() == Path(platformdirs.user_config_dir("specdiff", appauthor=False), "config.toml")


def test_no_file_means_no_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECDIFF_CONFIG")
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_, **__: str(tmp_path))
    assert read_defaults() == {}
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        read_defaults()


def test_every_key_is_an_option_with_a_variable() -> None:
    import typer

    command = typer.main.get_command(app).commands["render"]  # type: ignore[attr-defined]
    variables = {parameter.opts[0].removeprefix("--"): parameter.envvar for parameter in command.params}
    for key in KEYS:
        assert variables[key] == "SPECDIFF_" + key.upper().replace("-", "_")
    assert {key for key, variable in variables.items() if variable} == set(KEYS)
