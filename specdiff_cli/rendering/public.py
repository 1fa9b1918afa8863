"""Files rendered from Python: the same door that the command line, the page and the cluster go through."""

import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.rendering import batch
from specdiff_cli.rendering.events import Event
from specdiff_cli.rendering.inputs import gather
from specdiff_cli.rendering.jobs import Job, format_of, plan
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.weights.voices import VoiceCard, find_voice

if TYPE_CHECKING:
    import numpy.typing as npt

    from specdiff_cli.engine.synthesizer import Synthesizer

MusicFile = str | os.PathLike[str]


def render_files(
    jobs: MusicFile | Sequence[MusicFile] | Iterable[Job],
    voice: VoiceCard | str | None = None,
    request: Request | None = None,
    *,
    synthesizer: "Synthesizer | None" = None,
    with_audio: bool = False,
    **options: object,
) -> Generator[Event, None, None]:
    """Render MIDI files into audio files, as ``specdiff render`` does; a failed one is told and the rest go on.

    Everything that can be wrong with the request is said at once; the work is done as events are asked for. Closing the
    generator ends it: unfinished songs leave nothing.

    Args:
        jobs: a file, folder or pattern, several of them, or jobs of one's own (these may be a generator).
        voice: its name, folder or card; by default that of the request.
        request: what is wanted.
        synthesizer: the voice, loaded; it is used in place of a new one.
        with_audio: also yield the samples as they are made, as :class:`~specdiff_cli.rendering.events.Heard`.
        options: of ``specdiff render`` with ``_`` for ``-`` (``output``, ``sample_rate``, ``stems`` …), on top of the
            request.

    Yields:
        Events, as they happen; each file ends with one of ``Done``, ``Skipped`` and ``Failed``.

    Raises:
        UsageError: an option that does not exist, or cannot be.
        MidiError: a folder or pattern without MIDI files.
        WeightsError, DeviceError: no such voice, or it cannot be loaded.
        OutputError: an output that cannot be.
    """
    asked = (request or Request()).changed(options)
    card = voice if isinstance(voice, VoiceCard) else find_voice(asked.model if voice is None else voice)
    settled = settle(asked, card)
    return batch.render_files(_jobs(jobs, settled), card, asked, synthesizer=synthesizer, with_audio=with_audio)


def save_audio(
    path: str | os.PathLike[str],
    audio: "npt.ArrayLike",
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    *,
    subtype: str = "pcm16",
    overwrite: bool = False,
) -> None:
    """Write samples to a file that appears complete or not at all; its suffix says the format.

    Args:
        audio: (n,) or (n, n_channels), nominally within +-1.
        subtype: ``pcm16``, ``pcm24`` or ``float``, of WAV and FLAC.

    Raises:
        OutputError: it exists already, or cannot be written.
        UsageError: a format that does not exist, or cannot hold it.
    """
    import numpy as np

    from specdiff_cli.audio.wav import AtomicWriter

    samples = np.asarray(audio, np.float32)
    if samples.ndim not in (1, 2):
        raise ValueError(f"expected audio of shape (n,) or (n, n_channels), not {samples.shape}")
    writer = AtomicWriter(
        path,
        file_format=format_of(os.fspath(path), None),
        subtype=subtype,
        overwrite=overwrite,
        expected_samples=len(samples),
        sample_rate_hz=sample_rate_hz,
        n_channels=1 if samples.ndim == 1 else samples.shape[1],
    )
    with writer:
        writer.write(samples)
        writer.settle()


def _jobs(given: MusicFile | Sequence[MusicFile] | Iterable[Job], settled: Settled) -> Iterable[Job]:
    files = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(files, Sequence) or any(isinstance(item, Job) for item in files):
        return files  # type: ignore[return-value]
    names = tuple(os.fspath(Path(item)) for item in files if not isinstance(item, Job))
    sources, _ = gather(replace(settled.request.inputs, inputs=names))
    return plan(sources, settled)
