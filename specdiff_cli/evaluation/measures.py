"""What an evaluation measures on two recordings of one piece. Smaller is better unless said otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specdiff_cli.audio.loudness import GATE_LUFS, LoudnessMeter
from specdiff_cli.audio.mel import to_model_range
from specdiff_cli.constants import SAMPLE_RATE_HZ, WINDOW_FRAMES
from specdiff_cli.evaluation.opinion import OpinionScores
from specdiff_cli.evaluation.transcriber import LOWEST_PITCH, N_PITCHES, TOLERANCE_S, Onset, OnsetScores
from specdiff_cli.midi.notes import Note
from specdiff_cli.train.vocoder_losses import quality

PCM16_SCALE = 32768  # as a file's readers divide: a 16-bit reference passes unchanged


@dataclass(frozen=True)
class Recording:
    """One rendition of a piece: (n_samples,) float32 at 16 kHz, its (n_frames, 128) log-mel, and what is heard in it.

    ``onsets`` is None where no transcriber was asked.
    """

    audio: NDArray[np.float32]
    mel: Tensor
    onsets: list[Onset] | None


@dataclass(frozen=True)
class Likeness:
    """How close a recording is to the reference; 0 is equal."""

    log_mel_l1: float
    """Mean absolute difference of the log-mel features, nepers."""
    log_mel_l1_model_range: float
    """The same in the network's range, where -1 is silence and +1 a log-mel of 4."""
    spectral_convergence: float
    """Multi-resolution STFT (256 to 2048 samples): length of the difference of magnitudes over the reference's."""
    log_spectrum: float
    """Multi-resolution STFT: mean absolute difference of the log-magnitudes, nepers."""
    level_db: float
    """Level above the reference's; not an error, but what a wrong gain looks like."""
    loudness_db: float
    """Integrated loudness (ITU-R BS.1770-4) above the reference's: the level as it is heard."""


LIKENESS_NAMES = tuple(item.name for item in fields(Likeness))


@dataclass(frozen=True)
class Jump:
    """How far the spectrogram moves from frame to frame, summed: where windows meet, and everywhere else."""

    boundary_sum: float
    n_boundaries: int
    elsewhere_sum: float
    n_elsewhere: int

    @property
    def ratio(self) -> float | None:
        """Mean step at the boundaries over the mean step elsewhere; None without boundaries or steps elsewhere."""
        if self.n_boundaries == 0 or self.elsewhere_sum == 0:
            return None
        return (self.boundary_sum / self.n_boundaries) / (self.elsewhere_sum / self.n_elsewhere)


@dataclass(frozen=True)
class Measured:
    """All that was measured on one recording of one piece; None where a measure does not apply."""

    likeness: Likeness
    onsets: OnsetScores | None
    jump: Jump | None
    duration_s: float
    elapsed_s: float | None = None
    generated_mel_l1: float | None = None
    """Log-mel L1 of the network's own spectrogram, before the vocoder."""
    n_dropped_events: int = 0
    changes: tuple[str, ...] = ()
    """What the voice plays otherwise than the song asks for, one sentence each."""
    instruments: tuple[str, ...] = ()
    """What the voice plays it on."""
    opinion: OpinionScores | None = None


@dataclass(frozen=True)
class Row:
    """Measures as they are shown: of one piece, or of several together."""

    log_mel_l1: float
    log_mel_l1_of_ceiling: float | None
    """Over the vocoder's own; larger is worse."""
    log_mel_l1_model_range: float
    generated_mel_l1: float | None
    spectral_convergence: float
    log_spectrum: float
    level_db: float
    loudness_db: float
    loudness_error_db: float
    """The largest difference of loudness of any of the pieces, without its sign."""
    zimtohrli: float | None
    """Opinion score against the reference, 1 to 5; larger is better."""
    visqol: float | None
    frechet_distance: float | None
    """Of a network's features over all pieces; None of a single piece."""
    onset_precision: float | None
    onset_recall: float | None
    onset_f1: float | None
    onset_f1_of_reference: float | None
    """Over the reference's own; 1 is as good."""
    boundary_jump: float | None
    boundary_jump_of_reference: float | None
    """Over the reference's own at the same frames, where music may change, too."""
    x_realtime: float | None


def row(
    measured: Sequence[Measured],
    reference: Sequence[Measured],
    ceiling: Sequence[Measured] | None,
    frechet_distance: float | None = None,
) -> Row:
    """Pieces together: means; ratios are ratios of means; jumps and times are pooled.

    Args:
        measured: of one kind of recording, one for each piece.
        reference: of the reference, for the same pieces.
        ceiling: of the vocoder alone, for a render.
        frechet_distance: from the reference's features, of all pieces together.
    """
    likeness = {name: _mean([getattr(m.likeness, name) for m in measured]) for name in LIKENESS_NAMES}
    l1 = likeness["log_mel_l1"]
    ceiling_l1 = _mean([m.likeness.log_mel_l1 for m in ceiling]) if ceiling else 0.0
    scores = [m.onsets for m in measured if m.onsets is not None]
    reference_f1 = _mean([m.onsets.f1 for m in reference if m.onsets is not None])
    f1 = _mean([score.f1 for score in scores]) if scores else None
    jump = pooled_ratio([m.jump for m in measured])
    reference_jump = pooled_ratio([m.jump for m in reference])
    elapsed_s = sum(m.elapsed_s or 0.0 for m in measured)
    generated = [m.generated_mel_l1 for m in measured if m.generated_mel_l1 is not None]
    return Row(
        log_mel_l1=l1,
        log_mel_l1_of_ceiling=l1 / ceiling_l1 if ceiling_l1 > 0 else None,
        log_mel_l1_model_range=likeness["log_mel_l1_model_range"],
        generated_mel_l1=_mean(generated) if generated else None,
        spectral_convergence=likeness["spectral_convergence"],
        log_spectrum=likeness["log_spectrum"],
        level_db=likeness["level_db"],
        loudness_db=likeness["loudness_db"],
        loudness_error_db=max((abs(m.likeness.loudness_db) for m in measured), default=0.0),
        zimtohrli=_mean_of_known([m.opinion.zimtohrli for m in measured if m.opinion is not None]),
        visqol=_mean_of_known([m.opinion.visqol for m in measured if m.opinion is not None]),
        frechet_distance=frechet_distance,
        onset_precision=_mean([score.precision for score in scores]) if scores else None,
        onset_recall=_mean([score.recall for score in scores]) if scores else None,
        onset_f1=f1,
        onset_f1_of_reference=f1 / reference_f1 if f1 is not None and reference_f1 > 0 else None,
        boundary_jump=jump,
        boundary_jump_of_reference=jump / reference_jump if jump is not None and reference_jump else None,
        x_realtime=sum(m.duration_s for m in measured) / elapsed_s if elapsed_s > 0 else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def as_pcm16(audio: NDArray[np.float32], n_samples: int) -> NDArray[np.float32]:
    """(n_samples,): cut or filled with silence, clipped, and rounded as a 16-bit file would be.

    Every recording is measured as the file that a listener gets. Otherwise sounds below a file's last bit, which
    nobody hears, would weigh as much as music: the logarithm's floor lies 16 dB below them.
    """
    fitted = np.zeros(n_samples, dtype=np.float32)
    kept = audio[:n_samples]
    numbers = np.rint(np.nan_to_num(kept) * PCM16_SCALE)
    fitted[: len(kept)] = numbers.clip(-PCM16_SCALE, PCM16_SCALE - 1) / PCM16_SCALE
    return fitted


def compare(reference: Recording, other: Recording) -> Likeness:
    """How close ``other`` is to the reference; both of the same length."""
    measured = quality(torch.from_numpy(reference.audio), torch.from_numpy(other.audio))
    return Likeness(
        log_mel_l1=mel_distance(reference.mel, other.mel),
        log_mel_l1_model_range=float((to_model_range(reference.mel) - to_model_range(other.mel)).abs().mean()),
        spectral_convergence=measured.convergence,
        log_spectrum=measured.log_spectrum,
        level_db=_level_db(other.audio) - _level_db(reference.audio),
        loudness_db=_loudness_lufs(other.audio) - _loudness_lufs(reference.audio),
    )


def mel_distance(reference: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two (n_frames, 128) log-mels, nepers."""
    return float((reference - other).abs().mean())


def _level_db(audio: NDArray[np.float32]) -> float:
    """RMS level; silence counts as half a 16-bit step."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    return float(20 * np.log10(max(rms, 0.5 / PCM16_SCALE)))


def _loudness_lufs(audio: NDArray[np.float32]) -> float:
    """Integrated loudness; what is gated as silence counts as the gate itself."""
    meter = LoudnessMeter(SAMPLE_RATE_HZ)
    meter.push(audio)
    return max(meter.finish(), GATE_LUFS)


def boundary_jump(mel: Tensor) -> Jump:
    """Steps of a (n_frames, 128) log-mel: frames 256, 512 … against their predecessors, and all other frames.

    A step is the mean absolute difference in the network's range, so that nothing outside of it counts.
    """
    steps = to_model_range(mel).diff(dim=0).abs().mean(dim=1).double()  # steps[k - 1] leads to frame k
    is_boundary = torch.arange(1, len(mel)) % WINDOW_FRAMES == 0
    return Jump(
        boundary_sum=float(steps[is_boundary].sum()),
        n_boundaries=int(is_boundary.sum()),
        elsewhere_sum=float(steps[~is_boundary].sum()),
        n_elsewhere=int((~is_boundary).sum()),
    )


def pooled_ratio(jumps: Sequence[Jump | None]) -> float | None:
    """The ratio of several pieces together: one piece has too few boundaries for its own to say much."""
    known = [jump for jump in jumps if jump is not None]
    return Jump(
        boundary_sum=sum(jump.boundary_sum for jump in known),
        n_boundaries=sum(jump.n_boundaries for jump in known),
        elsewhere_sum=sum(jump.elsewhere_sum for jump in known),
        n_elsewhere=sum(jump.n_elsewhere for jump in known),
    ).ratio


def written_onsets(notes: Sequence[Note], duration_s: float) -> list[Onset]:
    """What a perfect transcriber would report of the score: pitched notes on the piano's keys that begin in time.

    Notes of one pitch that begin together, within the tolerance, sound as one and count once.
    """
    onsets: list[Onset] = []
    last_s: dict[int, float] = {}
    for note in sorted(notes, key=lambda note: note.start_s):
        is_heard = not note.is_drum and LOWEST_PITCH <= note.pitch < LOWEST_PITCH + N_PITCHES
        if not is_heard or note.start_s >= duration_s:
            continue
        if note.start_s - last_s.get(note.pitch, -1.0) > TOLERANCE_S:
            onsets.append((note.start_s, note.pitch))
            last_s[note.pitch] = note.start_s
    return onsets
