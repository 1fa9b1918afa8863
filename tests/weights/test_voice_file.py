"""voice.toml: what is written reads back equal, what is wrong is one line, and old files stay readable."""

import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from random_voices import OURS, VOICE_TOML

import specdiff_cli
from specdiff_cli.diffusion.presets import Preset, find_preset
from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING, FIXED_SAMPLING, Sampling
from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.voice_file import (
    FEATURES,
    VocoderSpec,
    VoiceFile,
    read_voice_file,
    vocabulary_table,
    write_voice_file,
)

QUICK = Preset(Sampling(4, "dpm++2m", "magenta", 1.5), "for a first look")
FULL = VoiceFile(
    name="mine",
    description='strings "and" winds \\ é 🎻',
    license="CC-BY-4.0",
    model=OURS,
    sampling=Sampling(3, "ddim", "magenta", 1.25, guidance_interval=(0.1, 0.8)),
    vocoder=VocoderSpec("spectral", {"dim": 256, "head": "advance"}),
    programs=(0, 40),
    plays_drums=False,
    prefers_bfloat16=True,
    allows_int8=True,
    source="https://example.org/w.zip, sha256 0",
    features=FEATURES,
    vocabulary=vocabulary_table(OURS),
    hashes={"model.safetensors": "0" * 64, "melgan/model.onnx": "a" * 64},
    presets={"quick": QUICK, "two words": QUICK},
)
PLAIN = replace(
    FULL, programs=None, plays_drums=True, source="", features={}, vocabulary={}, hashes={}, presets={}, model=OURS
)
AUTOREGRESSIVE = replace(
    PLAIN,
    model=ModelConfig(64, 3, 16, 96, 1, 0, 2, kind="autoregressive"),
    sampling=AUTOREGRESSIVE_SAMPLING,
)


@pytest.mark.parametrize("voice", [FULL, PLAIN, AUTOREGRESSIVE], ids=["full", "plain", "autoregressive"])
def test_what_is_written_reads_back_equal(tmp_path: Path, voice: VoiceFile) -> None:
    path = tmp_path / "voice.toml"
    write_voice_file(path, voice)
    assert read_voice_file(path) == voice
    with pytest.raises(FileExistsError):
        write_voice_file(path, PLAIN)
    assert read_voice_file(path) == voice
    write_voice_file(path, PLAIN, overwrite=True)
    assert read_voice_file(path) == PLAIN
    assert [item.name for item in tmp_path.iterdir()] == ["voice.toml"]


def test_the_file_is_readable_to_others(tmp_path: Path) -> None:
    write_voice_file(tmp_path / "voice.toml", FULL)
    content = tomllib.loads((tmp_path / "voice.toml").read_text(encoding="utf-8"))
    assert content["features"]["hop_samples"] == 320
    assert content["vocabulary"] == {
        **{"steps_per_second": 100, "max_shift_steps": 1000, "n_velocity_bins": 32, "n_ids": 1422, "max_tokens": 2048}
    }
    assert content["hashes"]["melgan/model.onnx"] == "a" * 64
    assert content["presets"]["quick"]["meaning"] == "for a first look"


def test_the_bundled_voice_plays_every_program_and_has_nothing_to_be_sampled() -> None:
    path = Path(specdiff_cli.__file__).parent / "voices" / "tiny" / "voice.toml"
    voice = read_voice_file(path)
    assert voice.sampling == FIXED_SAMPLING["templates"][0]
    assert not voice.presets
    assert voice.programs == tuple(range(128)) and voice.plays_drums
    assert {0, 8, 16, 24, 25, 32, 40, 48} <= set(voice.model.kits)


def test_own_presets_come_before_the_general_ones(tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    text = '[presets.draft]\nsteps = 2\nsampler = "ddim"\nschedule = "magenta"\n'
    path.write_text(VOICE_TOML.format(name="x") + text)
    own = read_voice_file(path).presets
    assert own == {"draft": Preset(Sampling(2, "ddim", "magenta"), "the voice's own")}
    assert find_preset("draft", own).sampling.steps == 2
    assert find_preset("paper", own).sampling.steps == 1000


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[features]\nhop_samples = 256", r"features\.hop_samples is 256, but specdiff computes with 320"),
        ("[features]\nhop_samples = true", r"features\.hop_samples is True"),
        ("[features]\nn_bands = 128", r"unknown key features\.n_bands"),
        ("[vocabulary]\nn_ids = 1391", r"vocabulary\.n_ids is 1391, but specdiff computes with 1422"),
        ('[hashes]\n"model.safetensors" = "abc"', r"hashes\.model\.safetensors is 'abc': expected 64"),
        (f'[hashes]\n"../x" = "{"0" * 64}"', r"hashes\.'\.\./x' is not the name of a file"),
        (f'[hashes]\n"/etc/passwd" = "{"0" * 64}"', "is not the name of a file"),
        ("[presets]\nquick = 3", r"has no \[quick\] table"),
        ('[presets.quick]\nsteps = "4"', r"presets\.quick\.steps is '4': expected a whole number"),
        ("[presets.quick]\nsteps = 4", r"\[presets\.quick\] is incomplete"),
        ("[presets.quick]\nspeed = 4", r"unknown key presets\.quick\.speed"),
        ('[presets.quick]\nsteps = 4\nsampler = "ddim"\nschedule = "magenta"\nguidance = inf', "not a number to count"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, extra: str, words: str) -> None:
    path = tmp_path / "voice.toml"
    path.write_text(VOICE_TOML.format(name="x") + extra + "\n")
    with pytest.raises(WeightsError, match=words) as caught:
        read_voice_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("d_ff = 48", 'd_ff = "48"', r"model\.d_ff is '48': expected a whole number"),
        ("d_ff = 48", "d_ff = 48.5", r"model\.d_ff is 48\.5: expected a whole number"),
        ("note_layout = true", "note_layout = 1", r"model\.note_layout is 1: expected true or false"),
        ('objective = "v"', 'objective = "w"', r"model\.objective is 'w': expected one of eps, v, x0"),
        ("steps = 2", "steps = true", r"sampling\.steps is True: expected a whole number"),
        (
            "steps = 2",
            "steps = 2\nguidance_interval = [0.1]",
            r"guidance_interval is \[0\.1\]: expected a list of 2 numbers",
        ),
        ("steps = 2", "steps = 2\nguidance_interval = [0.8, 0.1]", r"\[sampling\]: .*0\.8"),
        ("drums = false", "drums = 0", r"plays\.drums is 0: expected true or false"),
        ("programs = [0]", "programs = [128]", r"plays\.programs must be a list of program numbers"),
        ('name = "x"', 'name = "x"\nallows_int8 = true', "allows_int8 needs prefers_bfloat16"),
        ('name = "x"', 'name = "x"\nprefers_bfloat16 = "no"', "prefers_bfloat16 is 'no': expected true or false"),
        ('name = "x"', 'name = "a\\nb"', "name must be a text of one line"),
        ('name = "x"', 'name = "x"\nsource = ""', "source must be a text of one line"),
        ("note_layout = true", 'kind = "autoregressive"', r"\[model\].*autoregressive.*no context"),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "voice.toml"
    text = VOICE_TOML.format(name="x")
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(WeightsError, match=words) as caught:
        read_voice_file(path)
    assert "\n" not in str(caught.value)


def test_an_autoregressive_voice_has_its_own_sampling(tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    write_voice_file(path, AUTOREGRESSIVE)
    text = path.read_text()
    start, end = text.index("[sampling]"), text.index("[vocoder]")
    path.write_text(text[:start] + text[end:])
    assert read_voice_file(path).sampling == AUTOREGRESSIVE_SAMPLING  # the table may be left out
    path.write_text(text.replace("steps = 256", "steps = 20"))
    with pytest.raises(WeightsError, match=r"\[sampling\] is not that of a model that is autoregressive"):
        read_voice_file(path)


def test_a_table_without_end_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    path.write_text("a = " + "[" * sys.getrecursionlimit() * 2)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_voice_file(path)
