"""A voice's network made ready for a device and a precision, once for all who render with it; and what samples it."""

from threading import Event
from weakref import WeakKeyDictionary

import torch
from torch import nn

from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.engine.autoregression import AutoregressiveSampler
from specdiff_cli.engine.denoising import DiffusionSampler
from specdiff_cli.engine.devices import resolve_dtype
from specdiff_cli.engine.songs import WindowSampler
from specdiff_cli.engine.templates import TemplateSampler
from specdiff_cli.engine.timbres import note_frames
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.note_function import NoteFunction
from specdiff_cli.weights.load import Voice

# A network is compiled in place, and once: whoever else renders with it shares the result.
ReadyNetwork = CompiledNetwork | CompiledAutoregressive | NoteFrames
_COMPILED: WeakKeyDictionary[nn.Module, ReadyNetwork] = WeakKeyDictionary()


def dtype_for(voice: Voice, name: str, device: torch.device) -> torch.dtype:
    """The precision of that name, or the fastest that the voice allows; raises as ``resolve_dtype`` does."""
    allows_int8 = voice.allows_int8 and isinstance(voice.network, SpectrogramDiffusion)
    return resolve_dtype(name, device, prefers_bfloat16=voice.prefers_bfloat16, allows_int8=allows_int8)


def ready_network(voice: Voice, device: torch.device, dtype: torch.dtype) -> ReadyNetwork:
    """The voice's network, compiled in place by whoever asks first.

    Raises UsageError: it is in use on another device or in another precision, or does not compute in this one.
    """
    compiled = _COMPILED.get(voice.network)
    if compiled is None:
        network = voice.network
        if isinstance(network, SpectrogramDiffusion):
            compiled = CompiledNetwork(network, device, dtype)
        elif isinstance(network, NoteFunction):
            if dtype != torch.float32:  # powers that differ by orders of magnitude are added up
                name = str(dtype).removeprefix("torch.")
                raise UsageError.of("dtype", name, f"the voice {voice.name} computes in float32; leave it out")
            compiled = note_frames(network, device)
        else:
            compiled = CompiledAutoregressive(network, device, dtype)
        _COMPILED[network] = compiled
    elif (compiled.device, compiled.dtype) != (device, dtype):
        in_use = f"{compiled.device} {str(compiled.dtype).removeprefix('torch.')}"
        raise UsageError(f"the voice {voice.name} is in use as {in_use}; load it once more for another device or dtype")
    return compiled


def window_sampler(voice: Voice, network: ReadyNetwork, sampling: Sampling, stop: Event | None) -> WindowSampler:
    """What samples a ready network, until ``stop`` is set.

    Raises UsageError: a sampling that cannot be, or one for a voice that has nothing to choose.
    """
    config = voice.network.config
    if isinstance(network, CompiledNetwork):
        return DiffusionSampler(network, config, sampling, stop)
    own, what = FIXED_SAMPLING[config.kind]
    why = f"the voice {voice.name} {what}: it has no diffusion steps"
    if (sampling.steps, sampling.sampler, sampling.schedule) != (own.steps, own.sampler, own.schedule):
        others = Option("sampler"), ", ", Option("schedule"), " and ", Option("preset")
        raise UsageError(f"{why}; leave out ", Option("steps"), ", ", *others)
    if sampling.guidance != 1.0:
        raise UsageError.of("guidance", sampling.guidance, f"{why} to be guided; leave it out")
    if sampling.reuse_every != 1:
        raise UsageError.of("reuse_every", sampling.reuse_every, f"{why} that could reuse anything; leave it out")
    if sampling.overlap_frames:
        raise UsageError.of("overlap_frames", sampling.overlap_frames, f"{why} that could keep frames; use 0")
    if isinstance(network, NoteFrames):
        return TemplateSampler(network.device, stop)
    return AutoregressiveSampler(network, stop)
