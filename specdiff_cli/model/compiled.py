"""A network made ready for rendering: fused, scripted, frozen, on one device, with what a window needs kept."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from specdiff_cli.model.cuda_graphs import StepGraph
from specdiff_cli.model.fused import fused
from specdiff_cli.model.layers import MASKED, mask_bias
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.model.precision import floating
from specdiff_cli.model.quantised import quantised
from specdiff_cli.model.templates import RESIDUAL_SCALE

FILM_CHUNK_STEPS = 128  # FiLM tables are computed this many steps at a time, to bound the intermediate memory
LAYOUT_MULTIPLE = 64  # rows of notes
MASKED_FLOAT16 = -3e4  # the largest that float16 can hold is 65504
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the decoder may attend to in one window of each of B songs, computed once per window.

    keys, values: per layer (B, H, K, E). bias: (B, 1, 1, K) where some keys are padding, else None.
    laid: (B, 256, D), the laid-out notes, or None.
    base: (B, 256, 128) in model range, what the note templates add up to, or None.
    """

    keys: list[Tensor]
    values: list[Tensor]
    bias: Tensor | None
    laid: Tensor | None
    base: Tensor | None = None

    @property
    def seen(self) -> tuple[list[Tensor], list[Tensor], Tensor | None, Tensor | None]:
        """Keys, values, bias and laid-out notes."""
        return self.keys, self.values, self.bias, self.laid

    def spectrogram(self, sampled: Tensor) -> Tensor:
        """What was sampled as spectrograms (B, 256, 128) in model range; of voices with templates it is a residual."""
        return sampled if self.base is None else self.base + RESIDUAL_SCALE * sampled


class InnerFeatures:
    """What the decoder's inner blocks added in the last whole evaluation of a window, for steps that reuse it."""

    def __init__(self) -> None:
        self.added: Tensor | None = None  # (B, 256, D)

    def keep(self, added: Tensor) -> None:
        """Where there is a tensor already it is written into: recorded steps read it from where it is."""
        if self.added is None or self.added.shape != added.shape:
            self.added = added.clone()
        else:
            self.added.copy_(added)


class CompiledNetwork:
    """The parts of a network, compiled; the plain modules compute the same (see the tests).

    ``dtype`` int8 is for CPUs: most blocks multiply in 8 bits (:func:`quantised`), all else in :func:`floating` of it.
    """

    def __init__(self, network: SpectrogramDiffusion, device: torch.device, dtype: torch.dtype) -> None:
        # In float32 in every precision: powers that differ by orders of magnitude are added up.
        templates = None if network.note_templates is None else copy.deepcopy(network.note_templates).float()
        self.device = device
        self.dtype = dtype
        self._floating = floating(dtype)
        self._recorded: dict[bool, set[torch.Size]] = {False: set(), True: set()}  # shapes of steps, on CUDA
        network = network.to(device=device, dtype=self._floating).eval().requires_grad_(False)
        twin_of = quantised if dtype == torch.int8 else fused
        self._note_encoder = compiled(network.note_encoder, twin_of=twin_of)
        context_encoder = network.context_encoder
        self._context_encoder = None if context_encoder is None else compiled(context_encoder, twin_of=twin_of)
        self._decoder = compiled(network.decoder, "film", "memory", "evaluate", twin_of=twin_of)
        self._note_layout = None if network.note_layout is None else compiled(network.note_layout)
        self._templates = None if templates is None else compiled(templates.to(device).eval().requires_grad_(False))
        self._template_projection = network.template_projection

    def film(self, times: Sequence[float]) -> Tensor:
        """FiLM tables of all steps, (steps, layers, 2, 2 d_model): they depend on nothing but the time."""
        on_device = torch.tensor(times, dtype=torch.float32, device=self.device)
        return torch.cat([self._decoder.film(chunk) for chunk in torch.split(on_device, FILM_CHUNK_STEPS)])

    def remember(
        self, tokens: Sequence[Tensor], contexts: Sequence[Tensor | None], layouts: Sequence[Tensor]
    ) -> Memory:
        """Encode the notes and the previous spectrogram of one window per song, and project them to keys and values.

        Of a single song, keys that must not be seen (padding, the first window's absent context) are left out instead
        of masked; of several, the shorter ones are padded and the padding is masked.

        Args:
            tokens: per song (n_tokens,) ids, without padding.
            contexts: per song (1, 256, 128) in model range on the device, or None.
            layouts: per song (n_notes, 5), see :class:`specdiff_cli.midi.windows.TokenWindow`.
        """
        encodings, mask = self._encode_notes(tokens)
        if self._context_encoder is not None and any(context is not None for context in contexts):
            seen = torch.tensor([context is not None for context in contexts])
            encoded = self._context_encoder(torch.cat([context for context in contexts if context is not None]))
            if not seen.all():
                whole = encoded.new_zeros((len(contexts), *encoded.shape[1:]))
                whole[self._sent(seen)] = encoded
                encoded = whole
            encodings = torch.cat([encodings, encoded], dim=1)
            mask = torch.cat([mask, seen[:, None].expand(-1, encoded.shape[1])], dim=1)
        bias = None
        if not mask.all():
            masked = MASKED_FLOAT16 if self._floating == torch.float16 else MASKED
            bias = self._sent(mask_bias(mask, self._floating, masked))
        keys, values = self._decoder.memory(encodings)
        return Memory(keys, values, bias, *self._lay_out(layouts))

    def decode(
        self,
        x: Tensor,
        film: Tensor,
        memory: Memory | None,
        inner: InnerFeatures | None = None,
        *,
        reuses: bool = False,
    ) -> Tensor:
        """One evaluation of noisy windows (B, 256, 128) under ``film`` (1, layers, 2, 2 d_model), float32.

        Rows beyond those that the memory holds are unconditioned; without memory all are: they see neither notes nor
        context. ``inner`` keeps what the inner blocks add, or gives it (``reuses``) instead of their evaluation.
        """
        keys, values, bias, laid = ([], [], None, None) if memory is None else memory.seen
        reused = inner.added if inner is not None and reuses else None
        out, added = self._decoder.evaluate(x, film, keys, values, bias, None, laid, reused)
        if inner is not None and not reuses:
            inner.keep(added)
        return out  # type: ignore[no-any-return]

    def repeated(
        self, evaluate: Callable[[Tensor, Tensor], Tensor], n_times: int, *, reuses: bool = False
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The same function of (x, film), made ready to be called ``n_times`` with equal shapes."""
        if self.device.type != "cuda" or not StepGraph.pays(n_times):
            return evaluate
        return StepGraph(evaluate, self._recorded[reuses])

    def _encode_notes(self, tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Encodings (B, K, D), and on the CPU which of them stand for a token, (B, K) bool."""
        padded = nn.utils.rnn.pad_sequence(list(tokens), batch_first=True)  # padding is token 0
        mask = padded > 0
        return self._note_encoder(self._sent(padded), None if mask.all() else self._sent(mask)), mask

    def _lay_out(self, layouts: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """What the decoder is given of the notes (B, 256, D), and the spectrogram that their templates add up to."""
        if self._templates is None and not any(len(layout) for layout in layouts):
            return None, None
        padded = self._sent(nn.utils.rnn.pad_sequence([layout.float() for layout in layouts], batch_first=True))
        n_rows = max(1, padded.shape[1])
        # To a whole multiple: kernels are made and kept per shape, and every window has another number of notes.
        n_rows += -n_rows % LAYOUT_MULTIPLE
        padded = nn.functional.pad(padded, (0, 0, 0, n_rows - padded.shape[1]))
        ids, times = padded[:, :, :3].long(), padded[:, :, 3:]
        laid: Tensor | None = None if self._note_layout is None else self._note_layout(ids, times)
        if self._templates is None or self._template_projection is None:
            return laid, None
        base: Tensor = self._templates(ids, times)
        projected = self._template_projection(base.to(self._floating))
        return projected if laid is None else laid + projected, base

    def _sent(self, x: Tensor) -> Tensor:
        return sent(x, self.device)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device, without waiting for the copy where that is possible."""
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def compiled(module: Module, *methods: str, twin_of: Callable[[Module], nn.Module] = fused) -> Any:
    """Fuse, script and freeze a module; ``methods`` stay callable beside ``forward``."""
    with warnings.catch_warnings():
        # TorchScript is what the renderer is built on; its deprecation notice is not for users to act on.
        warnings.simplefilter("ignore")
        for method in methods:
            torch.jit.export(getattr(type(module), method))
        scripted = torch.jit.script(twin_of(module))
        return torch.jit.freeze(scripted, preserved_attrs=list(methods))
