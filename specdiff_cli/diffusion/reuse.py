"""Which steps evaluate the network as a whole, and which reuse what its inner blocks added a step or more before."""

from collections.abc import Sequence


def reusing_steps(weights: Sequence[float], every: int) -> list[bool]:
    """Whether each step reuses inner features, so that of ``every`` neighbours one is a whole evaluation.

    The last step is a whole one, since what it finds is the result; so is the first after a change of what is
    evaluated: with notes, without, or both for guidance (``weights``, one per step).

    Source: Ma et al. 2024 (DeepCache), with uniform intervals.
    """
    reuses: list[bool] = []
    n_since_whole = 0
    for i, weight in enumerate(weights):
        is_whole = i in (0, len(weights) - 1) or n_since_whole == every or _kind(weight) != _kind(weights[i - 1])
        n_since_whole = 1 if is_whole else n_since_whole + 1
        reuses.append(not is_whole)
    return reuses


def _kind(weight: float) -> str:
    """What guidance of this weight evaluates; see :func:`specdiff_cli.diffusion.guidance.guided`."""
    return {1.0: "conditional", 0.0: "unconditional"}.get(weight, "both")
