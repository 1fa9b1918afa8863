"""Notes whose sound is known exactly, for vocoders that are told the notes, and measures of what is heard."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from specdiff_cli.audio.partials.notes_to_sound import HOPS, NotesToSound
from specdiff_cli.audio.partials.responses import PARTIAL_POWER, interpolation, lobe_powers, mel_weights, noise_response
from specdiff_cli.audio.partials.score import PlayedNote, Vibrato, pitch_hz
from specdiff_cli.audio.partials.sounds import FRAME_S, reach
from specdiff_cli.constants import N_MELS

AMPLITUDES = (0.2, 0.1, 0.05)


def frames_of(frequencies_hz: torch.Tensor, amplitudes: torch.Tensor, begins_s: torch.Tensor) -> torch.Tensor:
    """Log powers of a steady sum of sinusoids that begins at 0: the sound whose answers are known."""
    low = frequencies_hz < 8000
    mel = ((amplitudes[low].square() @ lobe_powers(frequencies_hz[low])).sqrt() @ mel_weights())[None]
    above = interpolation(frequencies_hz[~low])[N_MELS:]
    high = (amplitudes[~low].square() @ (above / above.sum(0).clamp(min=1e-9)).T)[None] * PARTIAL_POWER
    share = reach(begins_s + FRAME_S).float()[:, None].square()
    return (torch.cat([mel.square(), high], dim=1) * share + 1e-24).log()


@dataclass
class Tones:
    """Instrument 0: three steady partials that stop within 10 ms. Instrument 1: white noise. The key is not heard."""

    amplitudes: tuple[float, ...] = AMPLITUDES
    swings: Vibrato | None = None
    turns: tuple[float, ...] = ()
    struck: tuple[float, ...] = ()
    asked: set[tuple[int, int, int]] = field(default_factory=set)

    def held(self, note: PlayedNote, until_s: float) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.add((note.instrument, note.key, note.velocity))
        fine = torch.arange(-0.04, 0.2, 0.005, dtype=torch.float64)
        later = torch.arange(0.2, max(until_s, 0.2) + 0.06, 0.02, dtype=torch.float64)
        begins_s = torch.cat([fine, later])
        if note.instrument == 1:
            mel = noise_response()[None] * 0.05
            share = reach(begins_s + FRAME_S).float()[:, None]
            power = torch.cat([mel.square() * share, torch.zeros(len(share), 16)], dim=1)
            return begins_s, (power + 1e-24).log()
        frequencies_hz = self.partials(note) * pitch_hz(note.pitch)
        return begins_s, frames_of(frequencies_hz, torch.tensor(self.amplitudes), begins_s)

    def released(self, note: PlayedNote) -> tuple[torch.Tensor, torch.Tensor, float]:
        since_end_s = torch.tensor([-0.02, -0.015, -0.01, 0.01], dtype=torch.float64)
        return since_end_s, torch.tensor([0.0, 0.0, -30.0, -60.0])[:, None].expand(-1, 144), 0.01

    def ending(self, note: PlayedNote) -> None:
        return None

    def partials(self, note: PlayedNote) -> torch.Tensor:
        n_partials = 0 if note.instrument == 1 else len(self.amplitudes)
        return torch.arange(1, n_partials + 1, dtype=torch.float64)

    def phases(self, note: PlayedNote) -> torch.Tensor:
        return torch.tensor(self.turns, dtype=torch.float64)

    def rings(self, note: PlayedNote) -> bool:
        return note.instrument == 1 or bool(self.struck)

    def tones(self, note: PlayedNote) -> torch.Tensor:
        return torch.tensor(self.struck, dtype=torch.float64)

    def vibrato(self, note: PlayedNote) -> Vibrato | None:
        return self.swings


def level_db(audio: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(np.square(audio.astype(np.float64)))))


def frequency_hz(audio: np.ndarray, rate_hz: int, near_hz: float) -> float:
    """Of the strongest partial within a semitone and a half: peak of a zero-padded spectrum, refined by a parabola."""
    n_fft = 1 << 20
    spectrum = np.abs(np.fft.rfft(audio * np.blackman(len(audio)), n_fft))
    low, high = (int(near_hz * factor * n_fft / rate_hz) for factor in (0.917, 1.091))
    peak = low + int(np.argmax(spectrum[low:high]))
    left, middle, right = np.log(spectrum[peak - 1 : peak + 2])
    return float((peak + 0.5 * (left - right) / (left - 2 * middle + right)) * rate_hz / n_fft)


def cents(found_hz: float, expected_hz: float) -> float:
    return 1200 * math.log2(found_hz / expected_hz)


def tone(start_s: float = 0.5, end_s: float = 2.5, pitch: float = 69.0, **more: object) -> PlayedNote:
    return replace(PlayedNote(start_s, end_s, 0, 0, 100, pitch), **more)  # type: ignore[arg-type]


def sound_of(
    *notes: PlayedNote,
    rate_hz: int = 16_000,
    n_channels: int = 1,
    duration_s: float = 3.0,
    timbres: Tones | None = None,
) -> np.ndarray:
    """(C, n) before any correction."""
    synthesis = NotesToSound(
        notes, timbres or Tones(), rate_hz=rate_hz, n_channels=n_channels, seed=3, device=torch.device("cpu")
    )
    n_knots = round(duration_s * rate_hz / HOPS[rate_hz])
    return synthesis.render(n_knots).sum(0).numpy()
