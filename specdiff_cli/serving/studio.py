"""What the page can do, without the page: open an upload, render it, compose, and say in one line what cannot be."""

import re
import sys
import traceback
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from specdiff_cli.choices import DEFAULT_COMPOSER
from specdiff_cli.composing.writing import write_midi
from specdiff_cli.errors import Message, MidiError, SpecdiffError, UsageError
from specdiff_cli.files import files_below
from specdiff_cli.midi.edits import apply_edits
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.midi.remarks import remaining
from specdiff_cli.midi.writer import midi_bytes
from specdiff_cli.rendering.batch import render_files
from specdiff_cli.rendering.events import Done, Event, Failed, Heard, Opened, Step, Told
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.request import Request
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.line import Line, Turn
from specdiff_cli.serving.live import Listening, LiveSounds
from specdiff_cli.serving.results import (
    AUDIO_NAME,
    COPIES,
    MIDI_NAME,
    STEMS_NAME,
    Composed,
    Moment,
    Rendered,
    ResultFolders,
    copy_as,
    picture_path,
)
from specdiff_cli.serving.uploads import OpenSong, read_upload, shown_name
from specdiff_cli.serving.voices import Voices
from specdiff_cli.serving.wishes import API_OPTIONS, ComposeWishes, Wishes
from specdiff_cli.wording import count, exact_clock

if TYPE_CHECKING:
    from specdiff_cli.composing.bundle import Composer


#: Option -> what it is called on the page.
_ON_THE_PAGE = {
    "model": "Voice",
    "sample-rate": "Sample rate",
    "normalize": "Loudness",
    "tempo-scale": "Tempo",
    "start": "From",
    "end": "To",
    "program": "Instrument",
    "max-duration": "specdiff web --max-duration",
    **{name: name.capitalize() for name in ("preset", "seed", "stereo", "transpose", "mute")},
}


class Studio:
    """The renderer behind the page. Voices stay loaded; everything else is forgotten soon."""

    def __init__(self, models: Sequence[str], limits: Limits, folder: Path, n_at_once: int = 1) -> None:
        """
        Args:
            models: voices to choose from, names and folders, the default first.
            limits: of each upload.
            folder: for temporary files, the studio's own; whoever made it deletes it.
            n_at_once: renders at one time; visitors beyond it wait in line.
        """
        self.voices = Voices(models)
        self.limits = limits
        self.live = LiveSounds()
        self._folder = folder
        self._results = ResultFolders(folder)
        self._line = Line(n_at_once)
        self._composer: Composer | None = None
        self._lock = Lock()

    def check_voices(self) -> None:
        """Raises WeightsError or UsageError where one of the voices cannot be used."""
        for name in self.voices.names:
            self.voices.find(name)

    def open(self, path: str | Path, name: str | None = None) -> OpenSong:
        """Read an upload. Raises MidiError, with a line fit for a stranger."""
        path = Path(path)
        name = shown_name(name or path.name)
        try:
            return read_upload(path, name, self.limits)
        except SpecdiffError as error:
            raise MidiError(self.public_line(error.line(on_the_page))) from None
        except OSError:
            raise MidiError(f"{name}: is gone; drop it again") from None

    def remarks(self, opened: OpenSong, voice: str) -> list[str]:
        """What of a song this voice will not play as the file asks. Raises as ``Voices.find``."""
        follows = self.voices.facts(voice).follows
        return [remark.unfollowed for remark in remaining(opened.song.remarks, follows)]

    def render(self, opened: OpenSong, wishes: Wishes) -> Iterator[Moment | Rendered]:
        """Render a song; the last thing yielded is the result. Closing the iterator stops it and leaves nothing.

        Raises:
            SpecdiffError: with a line fit for a stranger, in the page's words.
        """
        with self._new_result(opened, on_the_page) as folder, self._line.join() as turn:
            yield from _waiting(turn)
            yield from self._rendered(opened, wishes, folder)

    def _rendered(self, opened: OpenSong, wishes: Wishes, folder: Path) -> Iterator[Moment | Rendered]:
        yield Moment("Getting ready …", 0.0)
        audio_path, picture = folder / AUDIO_NAME, picture_path(folder)
        request = wishes.request(plot=picture, max_duration=self.limits.max_duration_s)
        job = Job(opened.path, audio_path, plot_target=picture)
        done: Done | None = None
        remarks: list[str] = []
        with (
            closing(self._events(job, request, with_audio=True)) as events,
            closing(Listening(self.live, folder)) as ear,
        ):
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Done):
                    done = event
                elif isinstance(event, Told) and event.job is not None:
                    line = _in_page_words(event.line).removeprefix(f"{job.source.name}: ")
                    remarks.append(self.public_line(line, opened))
                elif (moment := _moment(event)) is not None:
                    yield moment
                elif isinstance(event, Heard) and (url := ear.hear(event)):
                    yield Moment("Playing while it renders …", 0.0, live_url=url)
            ear.finish()
        if done is None:
            raise SpecdiffError("the render ended without a result")
        midi = folder / MIDI_NAME
        edited, _ = apply_edits(opened.song, wishes.edits, opened.name)
        write_midi(midi, midi_bytes(edited.notes, edited.bars), overwrite=False)
        files = (audio_path, *(copy_as(audio_path, folder / name) for name in COPIES.values()))
        text = (
            f"{exact_clock(done.duration_s)} of sound in {done.elapsed_s:.1f} s ({done.realtime_factor:.1f} × realtime)"
        )
        yield Rendered(text, wishes.label, audio_path, midi, picture, files, tuple(remarks))

    def render_api(self, path: str | None, options: object) -> Path:
        """A WAV file for a program that asked for it; ``options`` as in :data:`API_OPTIONS`. Raises SpecdiffError."""
        if path is None:
            raise UsageError("no MIDI file was sent")
        if not isinstance(options, Mapping):
            raise UsageError('the options must be an object, such as {"seed": 1}')
        unknown = sorted(set(options) - set(API_OPTIONS))
        if unknown:
            raise UsageError(f"unknown option {shown_name(unknown[0])}; known are {', '.join(API_OPTIONS)}")
        opened = self.open(path)
        with self._new_result(opened) as folder, self._line.join() as turn:
            request = Request.of({"model": self.voices.names[0], **options, "max_duration": self.limits.max_duration_s})
            for _ in chain(_waiting(turn), self._made(opened, request, folder)):
                pass
            return folder / AUDIO_NAME

    def stems(self, opened: OpenSong, wishes: Wishes) -> Iterator[Moment | Path]:
        """Every instrument on its own, and their sum, as a zip, which is the last thing yielded.

        Raises:
            SpecdiffError: with a line fit for a stranger, in the page's words.
        """
        with self._new_result(opened, on_the_page) as folder, self._line.join() as turn:
            yield from _waiting(turn)
            request = wishes.request(stems=True, max_duration=self.limits.max_duration_s)
            yield from self._made(opened, request, folder)
            archive = folder / STEMS_NAME
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
                for path in files_below(folder, (".wav",)):
                    file.write(path, path.name)
        yield archive

    def _made(self, opened: OpenSong, request: Request, folder: Path) -> Iterator[Moment]:
        """The audio in the folder, complete at the end."""
        with closing(self._events(Job(opened.path, folder / AUDIO_NAME), request)) as events:
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
                if (moment := _moment(event)) is not None:
                    yield moment

    def compose(self, asked: ComposeWishes) -> Iterator[Moment | tuple[Composed, ...]]:
        """Pieces out of nothing, or from an upload; the last thing yielded is all of them. Raises SpecdiffError."""
        from specdiff_cli.composing.jobs import make_pieces

        yield Moment("Getting ready …", 0.0)
        pieces: list[Composed] = []
        with self._new_result(asked.upload, on_the_page) as folder, self._line.join() as turn:
            yield from _waiting(turn)
            order = asked.order()
            song = order.songs.read()
            with self._lock:
                if self._composer is None:
                    from specdiff_cli.composing.bundle import load_composer

                    self._composer = load_composer(DEFAULT_COMPOSER)
            for index, made in make_pieces(self._composer, order, song, asked.n, None, lambda share: None):
                path = folder / f"piece-{index + 1}.mid"
                write_midi(path, made.data, overwrite=False)
                label = (
                    f"{index + 1}: {count(made.n_notes, 'note')}, {exact_clock(made.duration_s)}, {made.description}"
                )
                pieces.append(Composed(path, label, parse_midi(made.data, label)))
                yield Moment(f"{index + 1} of {count(asked.n, 'piece')}", (index + 1) / asked.n)
        yield tuple(pieces)

    def public_line(self, line: str, opened: OpenSong | None = None) -> str:
        """A line without any path of this machine."""
        if opened is not None:
            line = line.replace(str(opened.path), opened.name)
        line = re.sub(rf"{re.escape(str(self._folder))}[^\s:,;]*", "a temporary file", line)
        return self.voices.public_line(line)

    def _events(self, job: Job, request: Request, *, with_audio: bool = False) -> Generator[Event, None, None]:
        """What happens to a job, with the voice that is loaded already; ``request.model`` is its public name."""
        card = self.voices.find(request.model)
        synthesizer = self.voices.loaded(request.model)
        return render_files([job], card, request, synthesizer=synthesizer, with_audio=with_audio)

    @contextmanager
    def _new_result(self, opened: OpenSong | None, option_name: Callable[[str], str] = str) -> Iterator[Path]:
        """A folder for what is made in the block. Errors leave it with a public line, bugs are told in the log."""
        try:
            with self._results.new() as folder:
                yield folder
        except SpecdiffError as error:
            raise SpecdiffError(self.public_line(error.line(option_name), opened)) from None
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise SpecdiffError(
                "something went wrong here; whoever runs this page finds the reason in its log"
            ) from error


def on_the_page(option: str) -> str:
    """The name of an option as the page's controls have it."""
    return _ON_THE_PAGE.get(option.replace("_", "-"), option)


def _in_page_words(line: str) -> str:
    """A line of the renderer in which options have the names of the page's controls."""
    line = Message(line).line(on_the_page)
    return line.replace(", or subtype float, which keeps them", "")  # which the page does not offer


def _waiting(turn: Turn) -> Iterator[Moment]:
    """Tells the place in line until it is one's turn."""
    while place := turn.place:
        yield Moment(f"Number {place} in line …", None)
        turn.wait()


def _moment(event: Event) -> Moment | None:
    if isinstance(event, Opened):
        return Moment(f"Rendering {count(event.n_windows, 'window')} …", 0.0)
    if isinstance(event, Step):
        share = event.done_s / max(event.duration_s, 1e-9)
        return Moment(f"Window {event.window + 1} of {event.n_windows}", min(share, 1.0))
    return None
