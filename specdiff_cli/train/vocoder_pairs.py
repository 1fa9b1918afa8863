"""What the stages of ``partials`` learn from: the same music with a voice's notes, and as recorded.

The first is rendered once, and kept in the corpus: ``partials-VOICE-HASH/train/NAME.npz`` with ``made`` (n,) int16 in
units of ``step``, and ``mel`` (n_frames, 128) float16, the log-mel that was wanted of it. In ``parts-VOICE-HASH``,
``made`` is (2, n): partials and noise before the filter.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.audio.partials.beats import with_beats
from specdiff_cli.audio.partials.correction import mel_correction
from specdiff_cli.audio.partials.notes_to_sound import NotesToSound
from specdiff_cli.audio.partials.score import PlayedNote, Timbres
from specdiff_cli.audio.partials.vocoder import Expected, PartialVocoder
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN, SAMPLE_RATE_HZ
from specdiff_cli.corpus.pieces import INT16_PEAK
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.engine.synthesizer import Music, Synthesizer
from specdiff_cli.errors import UsageError
from specdiff_cli.files import files_in, make_folder
from specdiff_cli.train.batches import notes_of, read_piece
from specdiff_cli.train.run_folder import write_atomically
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voice_file import WEIGHTS_FILE
from specdiff_cli.weights.voices import find_voice

PAIRS_VERSION = 4  # raised when ``partials`` sounds different

#: (pieces ready, pieces in all): told before a piece is rendered.
OnReady = Callable[[int, int], None]


@dataclass(frozen=True)
class PairBatch:
    """Excerpts of both, at 16 kHz."""

    made: Tensor
    """(B, n_frames * 320) float32 by ``partials``, or (B, 2, n_frames * 320): partials and noise before its filter."""
    mel: Tensor
    """(B, n_frames, 128) log-mel that was wanted of it."""
    real: Tensor
    """(B, n_frames * 320) float32 as recorded."""

    def to(self, device: torch.device) -> "PairBatch":
        """The same on a device."""
        return PairBatch(self.made.to(device), self.mel.to(device), self.real.to(device))

    def louder(self, level_db: Tensor) -> "PairBatch":
        """By so much, (B, 1)."""
        factor = 10 ** (level_db / 20)
        mel = (self.mel + factor.log()[:, :, None]).clamp(min=LOG_MEL_MIN)
        made = self.made * (factor if self.made.dim() == 2 else factor[:, :, None])
        return PairBatch(made, mel, self.real * factor)


@dataclass(frozen=True)
class _Pair:
    real: npt.NDArray[np.int16]
    made: npt.NDArray[np.int16]
    step: float
    mel: npt.NDArray[np.float16]

    @property
    def n_frames(self) -> int:
        return min(len(self.real) // HOP_SAMPLES, len(self.mel))

    def excerpt(self, first_frame: int, n_frames: int) -> tuple[npt.NDArray[np.float32], ...]:
        """``made`` and ``real``, (..., n_frames * 320), and the mel."""
        samples = slice(first_frame * HOP_SAMPLES, (first_frame + n_frames) * HOP_SAMPLES)
        made = (self.made[..., samples] * self.step).astype(np.float32)
        real = (self.real[samples] / INT16_PEAK).astype(np.float32)
        return made, real, self.mel[first_frame : first_frame + n_frames].astype(np.float32)


class PairCorpus:
    """The pairs of one part of a corpus, in memory as 16-bit numbers (280 MB an hour, 400 with ``in_parts``).

    Raises UsageError for a damaged piece, and where no piece has ``shortest_frames``.
    """

    def __init__(
        self, corpus: Path, part: str, voice: str, shortest_frames: int, on_ready: OnReady, *, in_parts: bool = False
    ) -> None:
        paths = files_in(corpus / part, "*.npz")
        kept = pairs_folder(corpus, voice, in_parts=in_parts) / part
        renderer = _Renderer(voice, in_parts)
        pairs: dict[str, _Pair] = {}
        for number, path in enumerate(paths):
            told = partial(on_ready, number, len(paths))
            pairs[path.name] = _pair(path, kept / path.name, renderer, told)
        self.pairs = [pair for pair in pairs.values() if pair.n_frames >= shortest_frames]
        if not self.pairs:
            raise UsageError(f"no pieces of music in {corpus / part}; make them with specdiff train data")
        names = "".join(f"{name} {pair.n_frames} " for name, pair in pairs.items())
        self.fingerprint = hashlib.sha256(f"{kept.parent.name} {names}".encode()).hexdigest()
        """Which pieces these are, by name and length, and which voice plays them."""
        lengths = np.array([pair.n_frames for pair in self.pairs], dtype=np.float64)
        self._odds = lengths / lengths.sum()

    @property
    def hours(self) -> float:
        """Of all pieces together."""
        return sum(pair.n_frames for pair in self.pairs) * HOP_SAMPLES / SAMPLE_RATE_HZ / 3600

    def sample(self, n_excerpts: int, n_frames: int, generator: np.random.Generator) -> PairBatch:
        """Random excerpts."""
        rows = []
        for index in generator.choice(len(self.pairs), size=n_excerpts, p=self._odds):
            pair = self.pairs[index]
            rows.append(pair.excerpt(int(generator.integers(pair.n_frames - n_frames + 1)), n_frames))
        return _batch(rows)

    def middles(self, n_pieces: int, n_frames: int) -> list[PairBatch]:
        """The middle of each of the first pieces, at most ``n_frames`` of it, as batches of one."""
        batches = []
        for pair in self.pairs[:n_pieces]:
            length = min(n_frames, pair.n_frames)
            batches.append(_batch([pair.excerpt((pair.n_frames - length) // 2, length)]))
        return batches


def pairs_folder(corpus: Path, voice: str, *, in_parts: bool = False) -> Path:
    """Where the renderings of a corpus by a voice are kept. Raises WeightsError for an unknown voice."""
    card = find_voice(voice)
    weights = file_sha256(card.folder / WEIGHTS_FILE)
    mark = hashlib.sha256(f"{PAIRS_VERSION} {weights}".encode()).hexdigest()[:8]
    return corpus / f"{'parts' if in_parts else 'partials'}-{card.name}-{mark}"


class _Renderer:
    """A voice with ``partials``, or what these are before the filter, loaded when it is needed."""

    def __init__(self, voice: str, in_parts: bool) -> None:
        self._name, self._in_parts = voice, in_parts
        self._synthesizer: Synthesizer | None = None

    def render(self, path: Path, rows: npt.NDArray[np.float64], n_samples: int) -> tuple[Tensor, Tensor]:
        """A piece of a corpus: (n_samples,) or (2, n_samples) float32, and (n_frames, 128) log-mel."""
        if self._synthesizer is None:
            n_threads = torch.get_num_threads()
            self._synthesizer = load_synthesizer(self._name, vocoder="partials", device="cpu", threads=n_threads)
            if isinstance(vocoder := self._synthesizer.vocoder, PartialVocoder):
                vocoder.gains = None  # a stage learns what the filter leaves
                self._synthesizer.vocoder = _PartsVocoder(vocoder.timbres) if self._in_parts else vocoder
        midi = path.with_suffix(".mid")
        music: Music = midi if os.path.isfile(midi) else notes_of(rows)  # the file knows more: levels, places, bends
        mels: list[npt.NDArray[np.float32]] = []
        audio = list(self._synthesizer.stream(music, n_samples / SAMPLE_RATE_HZ, on_mel=mels.append))
        sound, mel = torch.from_numpy(np.concatenate(audio)), torch.from_numpy(np.concatenate(mels))
        if not self._in_parts:
            return sound, mel
        parts = sound.T.contiguous()
        whole = parts.sum(0, keepdim=True)
        return parts, with_beats(mel, mel_correction(SAMPLE_RATE_HZ, whole.device).log_mel(whole))


@dataclass
class _PartsVocoder:
    """Partials and noise before the filter, as two channels at 16 kHz. See ``audio.vocoder.NoteVocoder``."""

    timbres: Timbres
    rate_hz: int = SAMPLE_RATE_HZ
    n_channels: int = 2
    name: str = "parts"

    def open(
        self, notes: Sequence[PlayedNote], seed: int = 0, expected: Expected | None = None, n_threads: int = 1
    ) -> "_PartsStream":
        """Begin a song."""
        device = torch.device("cpu")
        synthesis = NotesToSound(notes, self.timbres, rate_hz=self.rate_hz, n_channels=1, seed=seed, device=device)
        return _PartsStream(synthesis)


class _PartsStream:
    """One song on its way."""

    def __init__(self, synthesis: NotesToSound) -> None:
        self._synthesis = synthesis

    def push(self, mel: Tensor) -> Tensor:
        """Partials and noise of the next frames, (2, n)."""
        n_knots = len(mel) * HOP_SAMPLES // self._synthesis.hop_samples
        return self._synthesis.render(n_knots)[:, 0]

    def flush(self) -> Tensor:
        """Nothing is held back."""
        return torch.zeros(2, 0)


def _pair(path: Path, kept: Path, renderer: _Renderer, on_missing: Callable[[], None]) -> _Pair:
    """A piece and its rendering, which is made where it is missing or damaged. Raises UsageError, OutputError."""
    real, rows = read_piece(path)
    pcm = (real * INT16_PEAK).round().to(torch.int16).numpy()
    try:
        with np.load(kept) as archive:
            pair = _Pair(pcm, archive["made"], float(archive["step"]), archive["mel"])
        if pair.made.shape[-1] == len(pcm):
            return pair
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    on_missing()
    audio, mel = renderer.render(path, rows, len(pcm))
    step = max(float(audio.abs().max()), 1e-9) / INT16_PEAK
    pair = _Pair(pcm, (audio / step).round().to(torch.int16).numpy(), step, mel.half().numpy())
    make_folder(kept.parent)
    write_atomically(kept, lambda file: np.savez(file, made=pair.made, step=np.float64(step), mel=pair.mel))
    return pair


def _batch(rows: list[tuple[npt.NDArray[np.float32], ...]]) -> PairBatch:
    made, real, mel = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return PairBatch(made, mel, real)
