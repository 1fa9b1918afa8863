"""A denoising step recorded once and replayed: at batch size 1 a GPU waits for launches more than it computes.

Needs CUDA. Not exercised by the fast tests; ``pytest -m gpu`` compares it with the plain call.
"""

from collections.abc import Callable

import torch
from torch import Tensor

N_PLAIN_CALLS = 3  # the compiled code observes the first call, and is rewritten in the second
MIN_CALLS = 8  # below this a recording does not pay


class StepGraph:
    """A function of (x, film) whose other inputs never change, e.g. the decoder within one window.

    The first calls are plain ones, which let the compiled code specialise; then one is recorded. Where that fails,
    every call stays plain. All calls must have the same shapes. ``seen`` is shared by the recordings of one network:
    the shapes that its code is specialised for, of which one plain call is enough.
    """

    def __init__(self, evaluate: Callable[[Tensor, Tensor], Tensor], seen: set[torch.Size]) -> None:
        self._evaluate = evaluate
        self._seen = seen
        self._n_calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._output: Tensor | None = None

    @staticmethod
    def pays(n_calls: int) -> bool:
        """Whether so many calls are worth a recording."""
        return n_calls >= MIN_CALLS

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        self._n_calls += 1
        if self._n_calls == (1 if x.shape in self._seen else N_PLAIN_CALLS) + 1:
            self._record(x, film)
            self._seen.add(x.shape)
        if self._graph is None or self._inputs is None or self._output is None:
            return self._evaluate(x, film)
        for kept, given in zip(self._inputs, (x, film), strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._output.clone()  # the next replay writes over it

    def _record(self, x: Tensor, film: Tensor) -> None:
        inputs = (x.clone(), film.clone())
        graph = torch.cuda.CUDAGraph()
        try:
            # Only what this thread does is recorded: others may use the GPU meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = self._evaluate(*inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation that cannot be recorded
            return
        self._graph, self._inputs, self._output = graph, inputs, output
