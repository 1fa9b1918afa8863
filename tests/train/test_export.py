"""From a run to a voice folder whose hashes are in the lock."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from command_line import specdiff
from random_voices import OURS, random_network
from safetensors.torch import save_file

from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.errors import OutputError, UsageError, WeightsError
from specdiff_cli.train.export import Plays, export, update_lock
from specdiff_cli.weights.load import load_voice_folder
from specdiff_cli.weights.lock import load_lock, verify_bundled

SAMPLING = Sampling(steps=3, sampler="ddim", schedule="magenta")
LOCK = """\
# the first line
lock_version = 1

[models.other]
description = "stays"
license = "MIT"
revision = "r1"

[[models.other.files]]
path = "x.bin"
url = "{endpoint}/x.bin"

[bundled.small]
description = "old"
license = "MIT"
files = []
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(random_network(OURS).state_dict(), folder / "model.safetensors")
    about = {
        "model": asdict(OURS),
        "train": {"precision": "bfloat16"},
        "plays": {"programs": [0, 40], "drums": True},
    }
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_an_exported_run_is_a_voice_and_its_hashes_are_in_the_lock(tmp_path: Path, run: Path) -> None:
    voices = tmp_path / "voices"
    words = export(run, voices / "small", SAMPLING)
    voice = load_voice_folder(voices / "small")
    assert (voice.name, voice.sampling, voice.network.config) == ("small", SAMPLING, OURS)
    assert (voice.programs, voice.plays_drums, voice.prefers_bfloat16) == ((0, 40), True, True)
    expected = random_network(OURS).state_dict()
    for key, tensor in voice.network.state_dict().items():
        assert tensor.equal(expected[key].half().float()), key
    lock = tmp_path / "weights.lock"
    lock.write_text(LOCK)
    for _ in range(2):  # a second time replaces what the first one wrote
        update_lock(lock, voices / "small", words)
    assert lock.read_text().startswith("# the first line\n")
    loaded = load_lock(lock)
    assert loaded.models["other"].description == "stays"
    assert loaded.bundled["small"].description == "acoustic piano, violin, drums; trained from scratch"
    assert [file.path for file in loaded.bundled["small"].files] == ["model.safetensors", "voice.toml"]
    assert verify_bundled("small", lock=loaded, voices_folder=voices) == voices / "small"
    (voices / "small" / "voice.toml").write_text("name = 1")
    with pytest.raises(WeightsError, match="reinstall"):
        verify_bundled("small", lock=loaded, voices_folder=voices)


def test_a_lock_without_the_section_is_refused(tmp_path: Path, run: Path) -> None:
    export(run, tmp_path / "other", SAMPLING)
    lock = tmp_path / "weights.lock"
    lock.write_text(LOCK)
    with pytest.raises(UsageError, match=r"\[bundled\.other\]"):
        update_lock(lock, tmp_path / "other", "a test")


def test_a_voice_is_replaced_only_when_asked_to(tmp_path: Path, run: Path) -> None:
    voice = tmp_path / "small"
    export(run, voice, SAMPLING)
    (voice / "vocoder.safetensors").write_bytes(b"of the voice before")
    before = (voice / "voice.toml").read_text()
    with pytest.raises(OutputError, match="use overwrite"):
        export(run, voice, SAMPLING, description="new")
    assert (voice / "voice.toml").read_text() == before
    export(run, voice, SAMPLING, description='new "words" \\1', overwrite=True)
    assert 'description = "new \\"words\\" \\\\1"' in (voice / "voice.toml").read_text()
    assert sorted(path.name for path in voice.iterdir()) == ["model.safetensors", "voice.toml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "small"]  # nothing half-made is left


def test_weights_that_do_not_fit_make_no_voice(tmp_path: Path, run: Path) -> None:
    save_file({"x": random_network(OURS).state_dict()["decoder.norm.weight"]}, run / "model.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        export(run, tmp_path / "small", SAMPLING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_descriptions() -> None:
    assert Plays((0,), False).describe() == "acoustic piano; trained from scratch"
    assert Plays((0, 4, 8, 16), True).describe() == "4 instruments, drums; trained from scratch"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "--voice", "v"], "config.json: does not exist; give the folder of a run"),
        (["run", "--voice", "v", "--vocoder", "run"], "vocoder.json: does not exist"),
        (["run", "--voice", "v", "--lock", "none.lock"], "cannot read none.lock"),
        (["run", "--voice", "v", "--sampler", "euler"], "--sampler euler: is not one of ddpm, ddim"),
        (["run", "--voice", "v", "--steps", "0"], "--steps 0: must be between 1 and 1000"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = specdiff("train", "export", *arguments)
    assert result.exit_code in (2, 5)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "v").exists()


def test_the_command_writes_a_voice(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = specdiff("train", "export", "run", "--voice", "mine", "--guidance", "1.5")
    assert (result.exit_code, result.stdout) == (0, "")
    assert load_voice_folder(tmp_path / "mine").sampling.guidance == 1.5
