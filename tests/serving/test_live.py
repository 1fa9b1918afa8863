import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from specdiff_cli.serving.live import LiveSound, LiveSounds, read_growing

_RATE_HZ = 44_100
_FIRST_FRAME_BYTES = 2048


def _tone(n_samples: int) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / _RATE_HZ)).astype(np.float32)


def test_what_is_written_is_heard_before_the_end(tmp_path: Path) -> None:
    sound = LiveSound(tmp_path, _RATE_HZ, 1)

    async def listen() -> tuple[int, bytes]:
        reader = read_growing(sound)
        sound.write(_tone(5 * _RATE_HZ))
        first = await anext(reader)
        sound.write(_tone(5 * _RATE_HZ))
        sound.close()
        return len(first), first + b"".join([data async for data in reader])

    n_first, data = asyncio.run(listen())
    assert n_first > 10_000, "several seconds of sound are there while the render goes on"
    # The first frame tells the length, which is known only at the end: all behind it has to be the same.
    complete = sound.path.read_bytes()
    assert (len(data), data[_FIRST_FRAME_BYTES:]) == (len(complete), complete[_FIRST_FRAME_BYTES:])
    audio, rate_hz = soundfile.read(io.BytesIO(complete))
    assert rate_hz == _RATE_HZ
    assert len(audio) == pytest.approx(10 * _RATE_HZ, rel=0.02)
    spectrum = np.abs(np.fft.rfft(audio[_RATE_HZ : 2 * _RATE_HZ]))
    assert np.argmax(spectrum) == 440


def test_a_sound_that_is_over_is_not_found_and_leaves_no_file(tmp_path: Path) -> None:
    applications = pytest.importorskip("starlette.applications")
    from starlette.testclient import TestClient

    sounds = LiveSounds()
    sound = LiveSound(tmp_path, _RATE_HZ, 2)
    sounds.add(sound)
    sound.write(np.zeros((1000, 2), np.float32))
    sound.close()
    client = TestClient(applications.Starlette(routes=sounds.routes()))
    answer = client.get(sound.url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    sounds.remove(sound)
    assert client.get(sound.url).status_code == 404
    assert client.get("live/../../etc/passwd.mp3").status_code == 404
    assert list(tmp_path.iterdir()) == []


def test_tokens_cannot_be_guessed(tmp_path: Path) -> None:
    tokens = {LiveSound(tmp_path, _RATE_HZ, 1).token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 20
