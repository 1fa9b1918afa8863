"""Rendered audio as a player in notebooks."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import specdiff_cli
from specdiff_cli import Player
from specdiff_cli.errors import OutputError


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_notebook_shows_a_player_that_holds_the_audio(n_channels: int) -> None:
    tone = (0.3 * np.sin(np.arange(16_000) / 10)).astype(np.float32)
    samples = tone if n_channels == 1 else np.stack([tone, -tone], 1)
    shown = Player(samples, title="a <song>")._repr_html_()
    assert "a &lt;song&gt;" in shown
    (content,) = re.findall(r'<audio controls src="data:audio/ogg;base64,([^"]+)">', shown)
    decoded, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert rate_hz == 16_000
    assert np.corrcoef(decoded.reshape(len(tone), -1)[:, 0], tone)[0, 1] > 0.99


def test_a_file_is_a_player_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    soundfile.write(path, np.zeros((100, 2)), 44_100)
    player = Player.of_file(path)
    assert (player.samples.shape, player.sample_rate_hz, player.title) == ((100, 2), 44_100, "song.flac")
    path.write_bytes(b"no sound")
    with pytest.raises(OutputError, match=r"cannot read .*song\.flac"):
        Player.of_file(path)


def test_the_public_names_are_listed() -> None:
    assert "Player" in dir(specdiff_cli)
