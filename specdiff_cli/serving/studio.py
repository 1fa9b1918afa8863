"""What the page can do, without the page: open an upload, render it, keep the results for a while."""

import re
import secrets
import shutil
import sys
import traceback
import zipfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from specdiff_cli.choices import check_range, check_seed
from specdiff_cli.errors import MidiError, SpecdiffError, UsageError
from specdiff_cli.midi.edits import Edits, apply_edits
from specdiff_cli.midi.notes import MidiSong, parse_midi, read_bytes
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.midi.writer import midi_bytes
from specdiff_cli.rendering.batch import render_files
from specdiff_cli.rendering.events import Done, Event, Failed, Heard, Opened, Step
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.request import Request
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.live import LiveSound, LiveSounds
from specdiff_cli.wording import count, exact_clock

if TYPE_CHECKING:
    from specdiff_cli.composing.bundle import Composer
    from specdiff_cli.composing.jobs import Order
    from specdiff_cli.engine.synthesizer import Synthesizer

ONE_AT_A_TIME = "device"  # what computes waits for each other under this name
MAX_RENDERS_KEPT = 24  # of all visitors together; each is at most Limits.max_duration_s long
MIDI_SUFFIXES = [".mid", ".midi", ".kar", ".rmi"]  # what the page takes
MAX_BAR_LINES = 400
MAX_NAME_CHARS = 80
AUDIO_NAME, PICTURE_NAME, MIDI_NAME, STEMS_NAME = "render.wav", "render.png", "render.mid", "stems.zip"
#: What programs may ask for: what is heard, and neither files nor machines.
API_OPTIONS = (
    "model", "preset", "steps", "sampler", "schedule", "guidance", "seed", "vocoder", "tail", "sample_rate",
    "normalize", "stereo", "swap", "program", "only", "mute", "transpose", "tempo_scale", "start", "end",
)  # fmt: skip
COMPOSER = "lieder"
MAX_PIECES, MAX_COMPOSED_NOTES = 4, 512  # at a time, on a page
COPIES = {"FLAC": "render.flac", "OGG": "render.ogg"}


@dataclass(frozen=True, slots=True)
class PlayedInstrument:
    """A program of a song, or its drums: what a visitor gives another sound or mutes."""

    program: int
    is_drum: bool
    n_notes: int

    @property
    def name(self) -> str:
        """As General MIDI calls it."""
        return "Drums" if self.is_drum else GM_NAMES[self.program]

    @property
    def label(self) -> str:
        """Name and number of notes."""
        return f"{self.name} · {count(self.n_notes, 'note')}"

    @property
    def selector(self) -> str:
        """What :class:`Edits` knows it by."""
        return "drums" if self.is_drum else str(self.program)


@dataclass(frozen=True, slots=True)
class OpenSong:
    """An upload that was read. ``name`` is the visitor's, shown and never used as a file's."""

    path: Path
    name: str
    song: MidiSong
    instruments: tuple[PlayedInstrument, ...]
    bar_starts_s: tuple[float, ...]
    facts: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a visitor asks for; None leaves it to the voice."""

    model: str = "tiny"
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
class Moment:
    """How far a render is. ``live_url``: where it can be heard, told once."""

    text: str
    share: float
    live_url: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished render; all files lie in one folder, which is deleted when newer ones need its place."""

    text: str
    label: str
    path: Path
    midi: Path
    picture: Path | None
    files: tuple[Path, ...]
    """WAV, FLAC, OGG."""


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


@dataclass(frozen=True, slots=True)
class Composed:
    """A piece that was composed."""

    path: Path
    label: str
    song: MidiSong


class Studio:
    """The renderer behind the page. Voices stay loaded; everything else is forgotten soon."""

    def __init__(self, models: Sequence[str], limits: Limits, folder: Path, n_at_once: int = 1) -> None:
        """
        Args:
            models: voices to choose from, the default first.
            limits: of each upload.
            folder: for temporary files, the studio's own; whoever made it deletes it.
            n_at_once: renders at one time; visitors beyond it wait in line.
        """
        self.models = list(models)
        self.limits = limits
        self.n_at_once = n_at_once
        self.live = LiveSounds()
        self._folder = folder
        self._kept: deque[Path] = deque()
        self._synthesizers: dict[str, Synthesizer] = {}
        self._composer: Composer | None = None
        self._lock = Lock()

    def check_voices(self) -> None:
        """Raises WeightsError or UsageError where one of the voices cannot be used."""
        from specdiff_cli.weights.voices import find_voice

        for model in self.models:
            find_voice(model)

    def open(self, path: str | Path, name: str | None = None) -> OpenSong:
        """Read an upload. Raises MidiError, with a line fit for a stranger."""
        path = Path(path)
        name = shown_name(name or path.name)
        try:
            self.limits.check_bytes(path.stat().st_size, name)
            song = parse_midi(read_bytes(path), name, max_duration_s=self.limits.max_duration_s)
            self.limits.check_notes(len(song.notes), name)
        except SpecdiffError as error:
            raise MidiError(self.public_line(str(error))) from None
        except OSError:
            raise MidiError(f"{name}: is gone; drop it again") from None
        return OpenSong(
            path=path,
            name=name,
            song=song,
            instruments=_instruments(song),
            bar_starts_s=_bar_starts(song),
            facts=f"{name} · {exact_clock(song.end_s)} · {count(len(song.notes), 'note')}",
            remarks=_remarks(song),
        )

    def render(self, opened: OpenSong, wishes: Wishes) -> Iterator[Moment | Rendered]:
        """Render a song; the last thing yielded is the result. Closing the iterator stops it and leaves nothing.

        Raises:
            SpecdiffError: with a line fit for a stranger.
        """
        with self._result_folder(opened) as folder:
            try:
                yield from self._rendered(opened, wishes, folder)
            except SpecdiffError:
                raise
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                raise SpecdiffError(
                    "something went wrong here; whoever runs this page finds the reason in its log"
                ) from error

    def _rendered(self, opened: OpenSong, wishes: Wishes, folder: Path) -> Iterator[Moment | Rendered]:
        yield Moment("Getting ready …", 0.0)
        audio_path, picture = folder / AUDIO_NAME, _picture_path(folder)
        request = wishes.request(plot=picture, max_duration=self.limits.max_duration_s)
        job = Job(opened.path, audio_path, plot_target=picture)
        done: Done | None = None
        with (
            closing(self._events(job, request, with_audio=True)) as events,
            closing(_Listening(self.live, folder)) as ear,
        ):
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Done):
                    done = event
                elif isinstance(event, Opened):
                    yield Moment(f"Rendering {count(event.n_windows, 'window')} …", 0.0)
                elif isinstance(event, Step):
                    share = event.done_s / max(event.duration_s, 1e-9)
                    yield Moment(f"Window {event.window + 1} of {event.n_windows}", min(share, 1.0))
                elif isinstance(event, Heard) and (url := ear.hear(event)):
                    yield Moment("Playing while it renders …", 0.0, live_url=url)
            ear.finish()
        if done is None:
            raise SpecdiffError("the render ended without a result")
        midi = folder / MIDI_NAME
        edited, _ = apply_edits(opened.song, wishes.edits, opened.name)
        midi.write_bytes(midi_bytes(edited.notes, edited.bars))
        files = (audio_path, *(_copy_as(audio_path, folder / name) for name in COPIES.values()))
        text = (
            f"{exact_clock(done.duration_s)} of sound in {done.elapsed_s:.1f} s ({done.realtime_factor:.1f} × realtime)"
        )
        yield Rendered(text, wishes.label, audio_path, midi, picture, files)

    def render_api(self, path: str, options: Mapping[str, object]) -> Path:
        """A WAV file for a program that asked for it; ``options`` as in :data:`API_OPTIONS`. Raises SpecdiffError."""
        unknown = sorted(set(options) - set(API_OPTIONS))
        if unknown:
            raise UsageError(f"unknown option {shown_name(unknown[0])}; known are {', '.join(API_OPTIONS)}")
        opened = self.open(path)
        with self._result_folder(opened) as folder:
            request = Request.of({**options, "max_duration": self.limits.max_duration_s})
            return self._made(opened, request, folder)

    def stems(self, opened: OpenSong, wishes: Wishes) -> Path:
        """Every instrument on its own, and their sum, as a zip. Raises SpecdiffError."""
        with self._result_folder(opened) as folder:
            request = replace(wishes, stereo=False).request(stems=True, max_duration=self.limits.max_duration_s)
            self._made(opened, request, folder)
            archive = folder / STEMS_NAME
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
                for path in sorted(folder.rglob("*.wav")):
                    file.write(path, path.name)
        return archive

    def _made(self, opened: OpenSong, request: Request, folder: Path) -> Path:
        """The audio, in the folder, once it is complete."""
        target = folder / AUDIO_NAME
        with closing(self._events(Job(opened.path, target), request)) as events:
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
        return target

    def compose(self, asked: ComposeWishes) -> Iterator[Moment | tuple[Composed, ...]]:
        """Pieces out of nothing, or from an upload; the last thing yielded is all of them. Raises SpecdiffError."""
        from specdiff_cli.composing.jobs import make_pieces

        yield Moment("Getting ready …", 0.0)
        pieces: list[Composed] = []
        with self._result_folder(asked.upload) as folder:
            order = asked.order()
            song = order.songs.read()
            with self._lock:
                if self._composer is None:
                    from specdiff_cli.composing.bundle import load_composer

                    self._composer = load_composer(COMPOSER)
            for index, made in make_pieces(self._composer, order, song, asked.n, asked.n, lambda share: None):
                path = folder / f"piece-{index + 1}.mid"
                path.write_bytes(made.data)
                label = (
                    f"{index + 1}: {count(made.n_notes, 'note')}, {exact_clock(made.duration_s)}, {made.description}"
                )
                pieces.append(Composed(path, label, parse_midi(made.data, label)))
                yield Moment(f"{index + 1} of {count(asked.n, 'piece')}", (index + 1) / asked.n)
        yield tuple(pieces)

    def public_line(self, line: str, opened: OpenSong | None = None) -> str:
        """An error's line without any path of this machine."""
        if opened is not None:
            line = line.replace(str(opened.path), opened.name)
        return re.sub(rf"{re.escape(str(self._folder))}[^\s:,;]*", "a temporary file", line)

    def _events(self, job: Job, request: Request, *, with_audio: bool = False) -> Generator[Event, None, None]:
        """What happens to a job, with the voice that is loaded already."""
        from specdiff_cli.weights.voices import find_voice

        voice = find_voice(request.model)
        synthesizer = self._synthesizer(request.model)
        return render_files([job], voice, request, synthesizer=synthesizer, with_audio=with_audio)

    def _synthesizer(self, model: str) -> "Synthesizer":
        with self._lock:
            if model not in self._synthesizers:
                if model not in self.models:
                    raise SpecdiffError(f"{shown_name(model)}: is not one of the voices of this page")
                from specdiff_cli.engine.loading import load_synthesizer

                self._synthesizers[model] = load_synthesizer(model)
            return self._synthesizers[model]

    @contextmanager
    def _result_folder(self, opened: OpenSong | None) -> Iterator[Path]:
        """A folder for what is made in the block; gone unless it is completed. Errors leave with a public line."""
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        try:
            yield folder
        except BaseException as error:  # also of visitors who leave
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, SpecdiffError):
                raise SpecdiffError(self.public_line(str(error), opened)) from None
            raise
        self._keep(folder)

    def _keep(self, folder: Path) -> None:
        with self._lock:
            self._kept.append(folder)
            old = [self._kept.popleft() for _ in range(len(self._kept) - MAX_RENDERS_KEPT)]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)


class _Listening:
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


def shown_name(name: str) -> str:
    """A visitor's name for a file, without folders and control characters, and not endless."""
    plain = "".join(c for c in re.split(r"[/\\]", name)[-1] if c.isprintable()).strip()
    return plain if len(plain) <= MAX_NAME_CHARS else f"{plain[: MAX_NAME_CHARS - 1]}…"


def _instruments(song: MidiSong) -> tuple[PlayedInstrument, ...]:
    """Those with most notes first."""
    counts: dict[tuple[int, bool], int] = {}
    for note in song.notes:
        key = (0 if note.is_drum else note.program, note.is_drum)
        counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(PlayedInstrument(program, is_drum, n_notes) for (program, is_drum), n_notes in ordered)


def _bar_starts(song: MidiSong) -> tuple[float, ...]:
    if song.bars is None:
        return ()
    n_bars = song.bars.count(song.end_s)
    return tuple(song.bars.start_s(bar) for bar in range(1, n_bars + 1)) if n_bars <= MAX_BAR_LINES else ()


def _remarks(song: MidiSong) -> tuple[str, ...]:
    found = []
    if song.n_unclosed_notes:
        found.append(f"{count(song.n_unclosed_notes, 'note')} never closed: ended with their track.")
    if song.n_zero_length_notes:
        found.append(f"{count(song.n_zero_length_notes, 'note')} of no length: left out.")
    return tuple(found)


def _picture_path(folder: Path) -> Path | None:
    """Where the picture goes; None where matplotlib is not installed."""
    from importlib.util import find_spec

    return folder / PICTURE_NAME if find_spec("matplotlib") else None


def _copy_as(source: Path, target: Path) -> Path:
    """The same sound in the format of the target's suffix; blocks of it, so that memory stays flat."""
    import soundfile

    with soundfile.SoundFile(source) as reader:
        subtype = "VORBIS" if target.suffix == ".ogg" else None
        with soundfile.SoundFile(target, "w", reader.samplerate, reader.channels, subtype=subtype) as writer:
            for block in reader.blocks(65_536, dtype="float32"):
                writer.write(block)
    return target
