"""What visitors and programs ask for, as records."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from specdiff_cli.choices import DEFAULT_VOICE, check_range, check_seed
from specdiff_cli.errors import UsageError
from specdiff_cli.midi.edits import Edits
from specdiff_cli.rendering.request import Request
from specdiff_cli.serving.uploads import OpenSong
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.composing.jobs import Order

#: What programs may ask for: what is heard, and neither files nor machines.
API_OPTIONS = (
    "model", "preset", "steps", "sampler", "schedule", "guidance", "seed", "vocoder", "tail", "sample_rate",
    "normalize", "stereo", "swap", "program", "only", "mute", "transpose", "tempo_scale", "start", "end",
)  # fmt: skip
MAX_PIECES, MAX_COMPOSED_NOTES = 4, 512  # at a time, on a page


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a visitor asks for; None leaves it to the voice."""

    model: str = DEFAULT_VOICE
    preset: str | None = None
    seed: int = 0
    sample_rate_hz: int | None = None
    stereo: bool = False
    normalize: str | None = None
    transpose: int = 0
    tempo_scale: float = 1.0
    start: str | None = None
    end: str | None = None
    programs: tuple[str, ...] = ()
    mute: tuple[str, ...] = ()

    @property
    def edits(self) -> Edits:
        """The part of it that concerns the notes."""
        return Edits(
            programs=self.programs,
            mute=self.mute,
            transpose=self.transpose,
            tempo_scale=self.tempo_scale,
            start=self.start,
            end=self.end,
        )

    @property
    def label(self) -> str:
        """What tells this render from another, in a few words."""
        standard = Wishes(model=self.model)
        words = [self.model]
        words += [self.preset] if self.preset else []
        words += [f"seed {self.seed}"] if self.seed else []
        words += [f"{self.sample_rate_hz} Hz"] if self.sample_rate_hz else []
        words += ["stereo"] if self.stereo else []
        words += [f"{self.transpose:+d} semitones"] if self.transpose else []
        words += [f"tempo × {self.tempo_scale:g}"] if self.tempo_scale != standard.tempo_scale else []
        words += [f"{self.start or 'start'} to {self.end or 'end'}"] if self.start or self.end else []
        words += [f"{count(len(self.programs), 'instrument')} changed"] if self.programs else []
        words += [f"{len(self.mute)} muted"] if self.mute else []
        return ", ".join(words)

    def request(self, **more: object) -> Request:
        """As the renderer takes it; ``more`` are further options. Raises UsageError for what cannot be."""
        return Request.of(
            {
                "model": self.model,
                "preset": self.preset,
                "seed": self.seed,
                "sample_rate": self.sample_rate_hz,
                "stereo": self.stereo,
                "normalize": self.normalize,
                "transpose": self.transpose,
                "tempo_scale": self.tempo_scale,
                "start": self.start,
                "end": self.end,
                "program": self.programs or None,
                "mute": self.mute or None,
                **more,
            }
        )


@dataclass(frozen=True, slots=True)
class ComposeWishes:
    """What a visitor asks the composer for. ``task``: new, continue, fill, reharmonise or accompany; all but the first
    need an upload, and fill a ``section`` of it."""

    n: int = 2
    n_notes: int = 128
    program: int = 0
    seed: int = 0
    task: str = "new"
    section: str = ""
    upload: OpenSong | None = None

    def order(self) -> "Order":
        """As the composer takes it. Raises UsageError."""
        from specdiff_cli.composing.jobs import Order, Songs
        from specdiff_cli.composing.requests import parse_range

        check_range("n", self.n, 1, MAX_PIECES)
        check_range("notes", self.n_notes, 2, MAX_COMPOSED_NOTES)
        check_seed(self.seed)
        songs = Songs()
        if self.task != "new":
            if self.upload is None:
                raise UsageError("drop the song first that is to be worked on")
            path = self.upload.path
            songs = Songs(
                continued=path if self.task == "continue" else None,
                filled=(parse_range(self.section), path) if self.task == "fill" else None,
                reharmonised=path if self.task == "reharmonise" else None,
                accompanied=path if self.task == "accompany" else None,
            )
        return Order(self.n_notes, self.seed, (self.program,) * 3, songs=songs)
