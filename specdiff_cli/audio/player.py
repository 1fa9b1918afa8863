"""A rendered song as a player in notebooks."""

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.wav import StreamWriter
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import OutputError
from specdiff_cli.files import shown_path


@dataclass(frozen=True, eq=False)
class Player:
    """Audio that a notebook shows as a player: ``Player(synthesizer.render("song.mid"))``.

    Attributes:
        samples: (n,) float32, or (n, 2).
        sample_rate_hz: of them.
        title: shown above the player.
    """

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int = SAMPLE_RATE_HZ
    title: str = ""

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> Self:
        """What ``render_files`` wrote, under its name. Raises OutputError where it cannot be read."""
        import soundfile

        try:
            samples, sample_rate_hz = soundfile.read(path, dtype="float32")
        except (OSError, soundfile.LibsndfileError) as error:
            raise OutputError(f"cannot read {shown_path(Path(path))}: {error}") from None
        return cls(samples, sample_rate_hz, Path(path).name)

    def _repr_html_(self) -> str:
        """The player, with the audio inside it as Ogg Vorbis: some 0.5 MB a minute at most."""
        stream = io.BytesIO()
        n_channels = 1 if self.samples.ndim == 1 else self.samples.shape[1]
        with StreamWriter(
            stream, file_format="ogg", sample_rate_hz=self.sample_rate_hz, n_channels=n_channels
        ) as writer:
            writer.write(self.samples)
        content = base64.b64encode(stream.getvalue()).decode("ascii")
        title = f"<div>{html.escape(self.title)}</div>" if self.title else ""
        return f'{title}<audio controls src="data:audio/ogg;base64,{content}"></audio>'
