"""A song on its way from its notes to its file: its parts, what the sampling says of them, and what is left to tell."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specdiff_cli.choices import RECOMMENDED_LOUDNESS
from specdiff_cli.errors import Message, Option
from specdiff_cli.rendering.output import SongOutput
from specdiff_cli.rendering.prepare import Prepared
from specdiff_cli.wording import count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from specdiff_cli.engine.songs import FinishedWindow, Progress
    from specdiff_cli.engine.synthesizer import Song
    from specdiff_cli.rendering.beside import Part


@dataclass(frozen=True, slots=True)
class Reported:
    """What the sampling says of a part of a song, besides its audio."""

    key: "Part"
    progress: "Progress | None" = None
    mel: "npt.NDArray[np.float32] | None" = None
    window: "FinishedWindow | None" = None


class RunningSong:
    """A song whose output is open until its ``stack`` is closed.

    Args:
        number: tells the songs of a batch apart.
    """

    def __init__(self, number: int, prepared: Prepared, output: SongOutput) -> None:
        self.number = number
        self.prepared = prepared
        self.output = output
        self.n_parts_left = prepared.n_parts
        self.n_dropped_events = 0
        self.stack = ExitStack()
        self.stack.enter_context(output)
        self.n_kept = 0 if output.sidecar is None else output.sidecar.n_finished  # windows of an earlier run

    def keys(self) -> "list[Part]":
        """Its parts, each of which is sampled as a song of its own."""
        return [(self.number, part) for part in range(self.prepared.n_parts)]

    def part(self, part: int, seed: int, report: Callable[[Reported], None]) -> "Song[Part]":
        """A part as the synthesizer takes it; ``report`` is called from within the sampling."""
        from specdiff_cli.engine.synthesizer import Song

        prepared, output, key = self.prepared, self.output, (self.number, part)
        extra: dict[str, Any] = {}
        if output.sidecar is not None:
            extra["finished"] = output.sidecar.finished()
            extra["on_window"] = lambda window: report(Reported(key, window=window))
        if output.snapshots is not None:
            extra["on_step"] = output.snapshots
        if part == 0:
            extra["on_progress"] = lambda progress: report(Reported(key, progress=progress))
        if output.wants_mel:
            extra["on_mel"] = lambda mel: report(Reported(key, mel=mel))
        notes = prepared.notes if prepared.stems is None else prepared.stems[part].notes
        extra["expression"] = prepared.song.expression
        return Song(key, notes, prepared.duration_s, seed, **extra)

    def resumed(self) -> str | None:
        """What is told of an earlier run's windows, as the song is opened."""
        sidecar = self.output.sidecar
        if sidecar is None:
            return None
        if sidecar.why_from_start is not None:
            return f"begun anew: {sidecar.why_from_start}"
        return f"{count(self.n_kept, 'window')} of {self.prepared.n_windows} done earlier" if self.n_kept else None

    def remarks(self) -> Iterator[str]:
        """What is told of the song once it is finished."""
        prepared, output = self.prepared, self.output
        yield from (remark.unfollowed for remark in prepared.remarks)
        yield from prepared.messages
        if self.n_dropped_events:
            yield f"{count(self.n_dropped_events, 'note event')} did not fit into their windows and were dropped"
        if output.message is not None:
            yield output.message
        if output.n_clipped:
            peak_db = 20 * math.log10(output.peak)
            clipped = f"{count(output.n_clipped, 'sample')} clipped, peaks reach {peak_db:.1f} dB above full scale"
            level, exact = Option("normalize", RECOMMENDED_LOUDNESS), Option("subtype", "float")
            yield Message(clipped, ": use ", level, ", or ", exact, ", which keeps them")
        if output.stem_paths:
            yield f"{count(len(output.stem_paths), 'stem')} in {output.stem_paths[0].parent}"
