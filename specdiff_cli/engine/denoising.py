"""The next window of each of several songs by diffusion: noise is taken away until the spectrogram is left."""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event

import torch
from torch import Tensor

from specdiff_cli.audio.mel import FEATURE_RANGE, from_model_range, to_model_range
from specdiff_cli.constants import LOG_MEL_MIN, N_MELS, WINDOW_FRAMES
from specdiff_cli.diffusion.guidance import guided, step_weights
from specdiff_cli.diffusion.inpainting import KnownFrames
from specdiff_cli.diffusion.reuse import reusing_steps
from specdiff_cli.diffusion.samplers import Denoiser, find_sampler, predict
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.diffusion.schedules import find_schedule
from specdiff_cli.engine.ahead import Stopped
from specdiff_cli.engine.songs import ActiveSong, Key, StepState
from specdiff_cli.model.compiled import CompiledNetwork, InnerFeatures, Memory, sent
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.templates import RESIDUAL_SCALE


class DiffusionSampler:
    """One sampling setting on one network, with all that does not depend on the song."""

    def __init__(
        self, network: CompiledNetwork, config: ModelConfig, sampling: Sampling, stop: Event | None = None
    ) -> None:
        """``stop``: once set, sampling ends at the next step with :class:`Stopped`.

        Raises:
            UsageError: an unknown name of a sampler or schedule, or more steps than the schedule has.
        """
        self.device = network.device
        self._network = network
        self._objective = config.objective
        self._feature_range = config.feature_range or FEATURE_RANGE
        self._first_context = self._silence() if config.is_lightning and config.has_context else None
        self._sampler = find_sampler(sampling.sampler)
        self._steps = find_schedule(sampling.schedule)(sampling.steps)
        self._weights = step_weights(self._steps, sampling.guidance, sampling.guidance_interval)
        self._reuses = reusing_steps(self._weights, sampling.reuse_every)
        with torch.inference_mode():
            self._film = network.film([step.time for step in self._steps])
        self._stop = stop

    def sample(self, songs: Sequence[ActiveSong[Key]]) -> Tensor:
        """The next window of each song, (B, 256, 128) float32 log-mel in feature range on the device."""

        def noise() -> Tensor:
            return self._send(torch.cat([song.noise() for song in songs]))

        def report(step: int) -> None:
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            for song in songs:
                song.report(step, len(self._steps))

        memory = self._network.remember(
            [torch.from_numpy(song.window.tokens) for song in songs],
            [self._first_context if song.context is None else song.context for song in songs],
            [torch.from_numpy(song.window.layout) for song in songs],
        )
        denoiser = self._denoiser(memory)
        if any(song.on_step is not None for song in songs):
            denoiser = self._watched(denoiser, memory, songs)
        tails = self._tails(songs)
        if tails is None:
            x = self._sampler(denoiser, noise(), self._steps, noise, self._objective, report)
            mel = self._features(memory.spectrogram(x))
        else:
            values, is_known = tails
            kept = KnownFrames(_as_sampled(values, memory, self._feature_range), is_known, self._steps, noise)
            x = self._sampler(kept.around(denoiser), kept.noise(), self._steps, kept.noise, self._objective, report)
            mel = kept.put(values, self._features(memory.spectrogram(x)))
        for row, song in enumerate(songs):
            self._show(song, len(self._steps), partial(mel.select, 0, row), partial(mel.select, 0, row))
        return mel

    def _tails(self, songs: Sequence[ActiveSong[Key]]) -> tuple[Tensor, Tensor] | None:
        """The frames that windows begin with (B, k, 128) in feature range, and (B, 1, 1) which have any; or None."""
        known = [song.known for song in songs]
        given = next((frames for frames in known if frames is not None), None)
        if given is None:
            return None
        nothing = torch.zeros_like(given)
        is_known = torch.tensor([frames is not None for frames in known])[:, None, None]
        return torch.cat([nothing if frames is None else frames for frames in known]), self._send(is_known)

    def _watched(self, denoiser: Denoiser, memory: Memory, songs: Sequence[ActiveSong[Key]]) -> Denoiser:
        """The same denoiser, which shows each state and what it says about it, once per step."""
        n_shown = 0

        def denoise(x: Tensor, i: int) -> Tensor:
            nonlocal n_shown
            output = denoiser(x, i)
            if i == n_shown:  # a sampler of someone's own may evaluate a step more than once
                n_shown += 1
                for row, song in enumerate(songs):

                    def state(row: int = row) -> Tensor:
                        return self._features(memory.spectrogram(x))[row]

                    def estimate(row: int = row) -> Tensor:
                        x0 = predict(output, x, self._steps[i], self._objective).x0
                        return self._features(memory.spectrogram(x0))[row]

                    self._show(song, i, state, estimate)
            return output

        return denoise

    def _show(
        self, song: ActiveSong[Key], step: int, state: Callable[[], Tensor], estimate: Callable[[], Tensor]
    ) -> None:
        if song.on_step is not None:
            song.on_step(StepState(song.window.index, step, len(self._steps), state, estimate))

    def _denoiser(self, memory: Memory) -> Denoiser:
        seeing, both, blind = (self._evaluation(memory), self._evaluation(memory), self._evaluation(None))

        def evaluate_both(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
            # The second half of the batch lies beyond the memory: it sees nothing, and skips cross-attention.
            first, second = both(torch.cat([x, x]), i).chunk(2)
            return first, second

        return guided(seeing, blind, self._weights, evaluate_both)

    def _evaluation(self, memory: Memory | None) -> Denoiser:
        """The network as a whole, or without its inner blocks in those steps that reuse their features."""
        network, film, inner = self._network, self._film, InnerFeatures()
        n_reusing = sum(self._reuses)
        if n_reusing == 0:
            whole = network.repeated(lambda x, row: network.decode(x, row, memory), len(self._steps))
            return lambda x, i: whole(x, film[i : i + 1])
        keeping = network.repeated(lambda x, row: network.decode(x, row, memory, inner), len(self._steps) - n_reusing)
        reusing = network.repeated(
            lambda x, row: network.decode(x, row, memory, inner, reuses=True), n_reusing, reuses=True
        )
        return lambda x, i: (reusing if self._reuses[i] else keeping)(x, film[i : i + 1])

    def _send(self, x: Tensor) -> Tensor:
        return sent(x, self.device)

    def _features(self, values: Tensor) -> Tensor:
        return from_model_range(values, self._feature_range)

    def _silence(self) -> Tensor:
        """The context (1, 256, 128) in model range of a first window that must see one."""
        silence = torch.full((1, WINDOW_FRAMES, N_MELS), LOG_MEL_MIN)
        return self._send(to_model_range(silence, self._feature_range))


def _as_sampled(mel: Tensor, memory: Memory, feature_range: tuple[float, float] = FEATURE_RANGE) -> Tensor:
    """The first frames of windows (B, k, 128) in feature range as what is sampled there: the inverse of
    ``memory.spectrogram``."""
    values = to_model_range(mel, feature_range)
    return values if memory.base is None else (values - memory.base[:, : mel.shape[1]]) / RESIDUAL_SCALE
