import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from random_voices import OURS, random_network
from safetensors.torch import save_file

from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.train.export import export, update_lock
from specdiff_cli.weights.load import load_voice_folder
from specdiff_cli.weights.lock import load_lock, verify_bundled

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
    (folder / "config.json").write_text(json.dumps({"model": asdict(OURS)}))
    return folder


def test_an_exported_run_is_a_voice_and_its_hashes_are_in_the_lock(tmp_path: Path, run: Path) -> None:
    voices = tmp_path / "voices"
    export(run, voices / "small", "a test", steps=3, sampler="ddim")
    voice = load_voice_folder(voices / "small")
    assert (voice.name, voice.sampling.steps, voice.network.config) == ("small", 3, OURS)
    expected = random_network(OURS).state_dict()
    for key, tensor in voice.network.state_dict().items():
        torch.testing.assert_close(tensor, expected[key].half().float())
    lock = tmp_path / "weights.lock"
    lock.write_text(LOCK)
    for _ in range(2):  # a second time replaces what the first one wrote
        update_lock(lock, voices / "small", "a test")
    assert lock.read_text().startswith("# the first line\n")
    loaded = load_lock(lock)
    assert loaded.models["other"].description == "stays"
    assert [file.path for file in loaded.bundled["small"].files] == ["model.safetensors", "voice.toml"]
    assert verify_bundled("small", lock=loaded, voices_folder=voices) == voices / "small"
    (voices / "small" / "voice.toml").write_text("name = 1")
    with pytest.raises(WeightsError, match="reinstall"):
        verify_bundled("small", lock=loaded, voices_folder=voices)


def test_a_lock_without_the_section_is_refused(tmp_path: Path, run: Path) -> None:
    export(run, tmp_path / "other", "a test", steps=3, sampler="ddim")
    lock = tmp_path / "weights.lock"
    lock.write_text(LOCK)
    with pytest.raises(UsageError, match=r"\[bundled\.other\]"):
        update_lock(lock, tmp_path / "other", "a test")
