"""Sound that is heard while it is made: an MP3 stream that grows, and the route that browsers read it from.

Gradio's own streamed audio needs ffmpeg on the server; libsndfile, which is here anyway, encodes MP3 by itself, and
every browser plays an MP3 whose end is not known yet.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.rendering.events import Heard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

ROUTE = "/live/{token}.mp3"
POLL_S = 0.1
READ_BYTES = 32 * 1024
#: A reader that finds nothing new for so long leaves: a render that hangs must not hold connections for ever.
PATIENCE_S = 120.0


class LiveSound:
    """One render's sound so far, in a file of its own; ``token`` names it and cannot be guessed."""

    def __init__(self, folder: Path, sample_rate_hz: int, n_channels: int) -> None:
        import soundfile

        self.token = secrets.token_urlsafe(18)
        self.path = folder / f"{self.token}.mp3"
        self.is_complete = False
        self._file = soundfile.SoundFile(
            self.path,
            "w",
            sample_rate_hz,
            n_channels,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=0.4,
        )

    @property
    def url(self) -> str:
        """Relative, so that it holds behind a proxy and in a frame, too."""
        return ROUTE.format(token=self.token).lstrip("/")

    def write(self, audio: npt.NDArray[np.float32]) -> None:
        """Add (n,) or (n, n_channels) samples."""
        self._file.write(np.clip(audio, -1.0, 1.0))

    def close(self) -> None:
        """Nothing more comes: readers end when they have read what there is."""
        self._file.close()
        self.is_complete = True


class LiveSounds:
    """Every sound that somebody may be listening to, by token."""

    def __init__(self) -> None:
        self._sounds: dict[str, LiveSound] = {}
        self._lock = Lock()

    def add(self, sound: LiveSound) -> None:
        """Let it be heard."""
        with self._lock:
            self._sounds[sound.token] = sound

    def remove(self, sound: LiveSound) -> None:
        """Forget it, and delete its file."""
        with self._lock:
            self._sounds.pop(sound.token, None)
        with suppress(OSError):
            sound.path.unlink(missing_ok=True)

    def routes(self) -> list[Any]:
        """For the application that serves the page."""
        from starlette.routing import Route

        return [Route(ROUTE, self._answer)]

    async def _answer(self, request: "Request") -> "Response":
        from starlette.responses import PlainTextResponse, StreamingResponse

        sound = self._sounds.get(request.path_params["token"])
        if sound is None:
            return PlainTextResponse("this sound is over", status_code=404)
        return StreamingResponse(read_growing(sound), media_type="audio/mpeg", headers={"Cache-Control": "no-store"})


async def read_growing(sound: LiveSound) -> AsyncIterator[bytes]:
    """The bytes of a sound from its beginning, as they come. Raises OSError: it is over."""
    waited_s = 0.0
    with open(sound.path, "rb") as file:
        while waited_s < PATIENCE_S:
            was_complete = sound.is_complete  # asked before reading: what came in between is read in the next turn
            data = file.read(READ_BYTES)
            if data:
                waited_s = 0.0
                yield data
            elif was_complete:
                return
            else:
                await asyncio.sleep(POLL_S)
                waited_s += POLL_S


class Listening:
    """Sends what is heard to whoever listens; the sound is there as long as the render, and a while after it."""

    def __init__(self, live: LiveSounds, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._sound: LiveSound | None = None
        self._is_finished = False

    def hear(self, event: Heard) -> str | None:
        """Take the next samples; the sound's address when it begins."""
        if not len(event.audio):
            return None
        is_first = self._sound is None
        if self._sound is None:
            n_channels = 1 if event.audio.ndim == 1 else event.audio.shape[1]
            self._sound = LiveSound(self._folder, event.sample_rate_hz, n_channels)
            self._live.add(self._sound)
        self._sound.write(event.audio)
        return self._sound.url if is_first else None

    def finish(self) -> None:
        """The song is complete: listeners may hear it to its end."""
        self._is_finished = True

    def close(self) -> None:
        """Readers end; after a failure the sound is gone."""
        if self._sound is not None:
            self._sound.close()
            if not self._is_finished:
                self._live.remove(self._sound)
