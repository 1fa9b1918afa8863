"""``--snapshots``: how one window comes out of noise, as pictures, arrays and sound."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from specdiff_cli.errors import Option, UsageError
from specdiff_cli.wording import count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from specdiff_cli.audio.vocoder import Vocoder

SUFFIXES = (".png", ".npy", ".wav")
HIGHEST_PEAK = 10 ** (-1 / 20)  # noise in the middle of the process is far louder than any music


class StepState(Protocol):
    """What is known after a denoising step; spectrograms are log-mel in feature range."""

    @property
    def window(self) -> int:
        """Which window of the song, from 0."""
        ...

    @property
    def step(self) -> int:
        """Steps that are done: 0 is pure noise, ``n_steps`` the finished window."""
        ...

    @property
    def n_steps(self) -> int:
        """Steps of a window."""
        ...

    @property
    def state(self) -> "npt.NDArray[np.float32]":
        """The window as it is now, (256, 128) float32."""
        ...


def parse_snapshots(text: str) -> tuple[int, ...]:
    """The numbers of ``1000,750,500,250,0``, each once, the largest first. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError.of("snapshots", text, "must be steps that are still to go, as in 1000,750,500,250,0")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def check_snapshots(steps_left: tuple[int, ...], n_steps: int) -> None:
    """Raises UsageError for a step that the schedule does not have."""
    if max(steps_left) > n_steps:
        raise UsageError.of(
            "snapshots",
            max(steps_left),
            f"the render has {count(n_steps, 'step')}; choose from 0 (finished) to {n_steps} (noise), or set ",
            Option("steps"),
        )


def snapshot_paths(stem: Path, number: int) -> list[Path]:
    """The picture, the array and the sound of a snapshot: ``song.step-0750.png`` and so on."""
    # with_suffix would take a part of the name for a suffix
    return [stem.with_name(f"{stem.name}.step-{number:04}{suffix}") for suffix in SUFFIXES]


def check_files(stem: Path, steps_left: tuple[int, ...], overwrite: bool) -> None:
    """Refuse snapshots that cannot be written, before any work is done for them.

    Raises:
        UsageError: matplotlib is missing.
        OutputError: a file exists and ``overwrite`` is false, and the like.
    """
    from specdiff_cli.files import check_target
    from specdiff_cli.rendering.sheet import check_plot

    for number in steps_left:
        picture, *others = snapshot_paths(stem, number)
        check_plot(picture, overwrite)
        for path in others:
            check_target(path, overwrite)


class SnapshotWriter:
    """Keeps what a window is like at chosen steps; it is called after every step, and :meth:`write` ends it.

    A snapshot with 750 steps to go is ``STEM.step-0750.png``, ``.npy`` ((256, 128) float32 log-mel, as it is) and
    ``.wav`` (the vocoder's, made quieter where its peak would exceed -1 dBFS). The pictures have the same colours. Each
    file appears complete or not at all.

    Raises (from the constructor) UsageError for a step or window that the render does not have, and as ``check_files``.
    """

    def __init__(
        self,
        stem: Path,
        steps_left: tuple[int, ...],
        *,
        n_steps: int,
        window: int,
        n_windows: int,
        vocoder: "Vocoder",
        overwrite: bool = False,
    ) -> None:
        check_snapshots(steps_left, n_steps)
        if not 0 <= window < n_windows:
            raise UsageError.of("snapshot_window", window + 1, f"the song has {count(n_windows, 'window')}")
        check_files(stem, steps_left, overwrite)
        self._stem = stem
        self._steps_left = steps_left
        self._window = window
        self._vocoder = vocoder
        self._overwrite = overwrite
        self._states: dict[int, npt.NDArray[np.float32]] = {}

    def __call__(self, at: StepState) -> None:
        """Keep what this step is like if it is asked for."""
        import numpy as np

        number = at.n_steps - at.step
        if at.window == self._window and number in self._steps_left:
            # Kept until the song is done: a window that did not fit into memory is sampled again.
            self._states[number] = np.array(at.state, np.float32)

    @property
    def paths(self) -> list[Path]:
        """All files, the noisiest first."""
        return [path for number in self._steps_left for path in snapshot_paths(self._stem, number)]

    def write(self) -> None:
        """Write every snapshot. Raises OutputError."""
        for number in self._steps_left:
            self._write(number, self._states[number])

    def _write(self, number: int, mel: "npt.NDArray[np.float32]") -> None:
        import numpy as np
        import torch

        from specdiff_cli.audio.wav import AtomicWriter
        from specdiff_cli.rendering.mel_file import MelWriter
        from specdiff_cli.rendering.plots import spectrogram_picture

        picture, array, sound = snapshot_paths(self._stem, number)
        state = f"{count(number, 'step')} to go" if number else "finished"
        title = f"{self._stem.name}, window {self._window + 1}: {state}"
        spectrogram_picture(picture, mel, title, self._overwrite)
        with MelWriter(array, len(mel), overwrite=self._overwrite) as mel_writer:
            mel_writer.write(mel)
        audio = self._vocoder.invert(torch.from_numpy(mel), 0).numpy()
        with AtomicWriter(sound, overwrite=self._overwrite) as writer:
            writer.write(audio * min(1.0, HIGHEST_PEAK / max(float(np.abs(audio).max(initial=0.0)), 1e-9)))
