"""Sampling on a thread of its own, while songs are opened, read and written where the events are asked for."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Piece, Song

    Part: TypeAlias = tuple[int, int]  # number of a song, and of a part of it
    #: Songs, and an event that is set when nobody waits any more -> pieces of them: ``Synthesizer.stream_many``.
    Stream: TypeAlias = Callable[[Iterator[Song[Part]], threading.Event], Generator[Piece[Part], None, None]]

#: Pieces that may wait to be written: sampling goes on while one is written, and memory stays flat.
PIECES_AHEAD = 2
#: A wait without end would keep Ctrl-C from getting through on Windows.
WAKING_S = 0.5


class _Wanted:
    """The sampling asks for the next song."""


class _Over:
    """The sampling has ended; ``error`` is why, where it ended badly."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Beside:
    """One run of the sampling; what it reports and makes comes out of :meth:`run` in order."""

    def __init__(self) -> None:
        self._out: SimpleQueue[object] = SimpleQueue()
        self._songs: SimpleQueue[Song[Part] | None] = SimpleQueue()
        self._room = threading.Semaphore(PIECES_AHEAD)
        self._stop = threading.Event()

    def report(self, item: object) -> None:
        """To be called from within the sampling: the item comes out of :meth:`run` at once."""
        self._out.put(item)

    def run(self, stream: "Stream", songs: "Iterator[Song[Part] | None]") -> "Generator[object, None, None]":
        """Yield pieces and reports; ``songs`` is advanced here, by whoever asks for the next item.

        None comes out whenever ``songs`` was advanced, so that what happened there can be told; a None among the songs
        is passed over. Errors of the sampling and of ``songs`` are raised here. Closing the generator stops the
        sampling after the step it is in, and waits for it.
        """
        worker = threading.Thread(target=self._work, args=(stream,), name="rendering", daemon=True)
        worker.start()
        try:
            while True:
                item = self._next()
                if isinstance(item, _Over):
                    if item.error is not None:
                        raise item.error
                    return
                if isinstance(item, _Wanted):
                    for song in songs:
                        yield None
                        if song is not None:
                            self._songs.put(song)
                            break
                    else:
                        self._songs.put(None)
                        yield None
                    continue
                yield item
                if hasattr(item, "audio"):
                    self._room.release()
        finally:
            self._stop.set()
            self._songs.put(None)
            self._room.release()
            worker.join()

    def _next(self) -> object:
        while True:
            try:
                return self._out.get(timeout=WAKING_S)
            except Empty:
                continue

    def _work(self, stream: "Stream") -> None:
        from specdiff_cli.engine.ahead import Stopped

        over = _Over()
        pieces = stream(self._asked_for(), self._stop)
        try:
            for piece in pieces:
                self._room.acquire()
                if self._stop.is_set():
                    break
                self._out.put(piece)
        except Stopped:
            pass
        except BaseException as error:
            over.error = error
        finally:
            pieces.close()
            self._out.put(over)

    def _asked_for(self) -> "Iterator[Song[Part]]":
        while not self._stop.is_set():
            self._out.put(_Wanted())
            song = self._songs.get()
            if song is None:
                return
            yield song
