"""What a run's weights compose, in numbers: losses alone do not say whether it is music."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import nn

from specdiff_cli.composing.bundle import Composer
from specdiff_cli.composing.dataset import draw_excerpt, song_weights
from specdiff_cli.composing.jobs import Order, make_pieces
from specdiff_cli.composing.judgement import judge
from specdiff_cli.composing.pieces import Piece, piece_of
from specdiff_cli.composing.score import METRE_NAMES, METRES, STEPS_PER_BEAT, Score
from specdiff_cli.midi.notes import parse_midi

N_HELD_OUT = 64
#: Of a sampler that is asked for many steps otherwise, enough to see where a run stands.
UNET_STEPS = 20


class MusicJudge:
    """Composes a few pieces, always from the same seed, and compares them with excerpts of the held-out songs."""

    def __init__(
        self, kind: str, about: dict[str, Any], held_out: Sequence[Score], n_notes: int, n_pieces: int
    ) -> None:
        self._kind, self._about, self._n_pieces = kind, about, n_pieces
        self._order = Order(n_notes=n_notes, n_steps=UNET_STEPS if kind == "unet" else None)
        rng, weights = np.random.default_rng(0), song_weights(held_out)
        self._held_out = [
            _piece_of(draw_excerpt(list(held_out), weights, n_notes, rng, 0.05)[0]) for _ in range(N_HELD_OUT)
        ]

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Means per piece, and how many of the nine features are like those of the held-out songs. None: {}."""
        if not self._n_pieces:
            return {}
        repertoire = np.array(self._about.get("repertoire", []), dtype=np.int64).reshape(-1, 5)
        composer = Composer("run", self._kind, network, repertoire, self._about)
        made = make_pieces(composer, self._order, None, self._n_pieces, self._n_pieces, lambda share: None)
        found = judge([piece_of(parse_midi(piece.data, "a composed piece")) for _, piece in made], self._held_out)
        overlaps = [likeness.overlap for likeness in found.features.values()]
        return {
            **{f"judge/{name}": value for name, value in asdict(found.generated).items()},
            **{f"judge_held_out/{name}": value for name, value in asdict(found.real).items()},
            "judge/n_features_alike": float(found.n_features_alike),
            "judge/mean_overlap": float(np.mean(overlaps)),
        }


def _piece_of(score: Score) -> Piece:
    metre = METRE_NAMES[int(score.metre[0])] if score.metre[0] >= 0 else "4/4"
    onset = score.onset - (score.onset[0] - score.position[0])
    return Piece(onset / STEPS_PER_BEAT, score.duration / STEPS_PER_BEAT, score.pitch, METRES[metre] / STEPS_PER_BEAT)
