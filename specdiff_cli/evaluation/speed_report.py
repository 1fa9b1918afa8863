"""What a measurement of speed found."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured; times are seconds of wall clock, sizes bytes."""

    voice: str
    vocoder: str
    device: str
    processor: str  # see describe_processor
    dtype: str
    n_threads: int
    batch: int
    steps: int
    sampler: str
    schedule: str
    guidance: float
    reuse_every: int
    sample_rate_hz: int
    n_channels: int
    audio_s: float  # of all songs together
    render_s: float
    times_realtime: float
    step_s: float  # the decoder in one denoising step of the whole batch, mean
    window_s: float  # one window of the whole batch, from notes to sound
    share: dict[str, float]  # of the render, by part; adds up to 1
    first_sound_s: float  # from reading the weights to the first samples of the first song
    load_s: float  # reading and compiling the weights
    peak_memory_bytes: int | None  # of the process
    peak_device_bytes: int | None
    n_keys: float  # what cross-attention sees, mean over windows
    step_flops: float  # operations of one step of the whole batch
    flops_per_s: float  # of the decoder
    matmul_flops_per_s: float  # of plain matrix products of the decoder's shapes, in the same run

    def as_json(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """The report in words: names and what was measured, line by line."""
        threads = f", {self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        guidance = "" if self.guidance == 1 else f", guidance {self.guidance:g}"
        reuse = "" if self.reuse_every == 1 else f", one whole in {self.reuse_every}"
        songs = "1 song" if self.batch == 1 else f"{self.batch} songs side by side"
        is_added_up = self.sampler == "templates"
        if is_added_up:
            sampling, step = "from note templates", ""
        elif self.schedule == "none":  # an autoregressive voice's
            sampling, step = "frame by frame", "a frame"
        else:
            sampling, step = f"{self.steps} {self.sampler} steps{reuse}, {self.schedule}{guidance}", "a step"
        lines = [
            ("voice", f"{self.voice} + {self.vocoder}"),
            ("processor", self.processor),
            ("machine", f"{self.device} {self.dtype}{threads}"),
            ("sampling", f"{sampling} · {songs}"),
            ("sound", f"{self.sample_rate_hz / 1000:g} kHz {'mono' if self.n_channels == 1 else 'stereo'}"),
            ("audio", f"{self.audio_s:.1f} s in {self.render_s:.2f} s, {self.times_realtime:.2f} × realtime"),
            *([] if is_added_up else [(step, f"{1000 * self.step_s:.1f} ms")]),
            ("a 5.12 s window", f"{self.window_s:.2f} s"),
            ("first sound", f"{self.first_sound_s:.2f} s, of which {self.load_s:.2f} s loading"),
            *((f"  {name}", f"{100 * share:.1f} %") for name, share in self.share.items()),
        ]
        if not is_added_up:  # no products to speak of
            lines.append(("decoder speed", self._decoder_speed(step)))
        for name, size in (("peak memory", self.peak_memory_bytes), ("of the device", self.peak_device_bytes)):
            if size is not None:
                lines.append((name, f"{size / 1e6:.0f} MB"))
        return lines

    def _decoder_speed(self, step: str) -> str:
        share = f"{100 * self.flops_per_s / self.matmul_flops_per_s:.0f} % of a matrix product's"
        speed = f"{self.step_flops / 1e9:.1f} GFLOP {step} at {self.flops_per_s / 1e9:.0f} GFLOP/s"
        return f"{speed}, {share} {self.matmul_flops_per_s / 1e9:.0f}"
