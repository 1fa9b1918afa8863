"""The voices of a page, under names that tell nothing about the machine, and what each can do."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from specdiff_cli.errors import SpecdiffError, UsageError
from specdiff_cli.serving.uploads import shown_name

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Synthesizer
    from specdiff_cli.weights.voices import VoiceCard


@dataclass(frozen=True, slots=True)
class VoiceFacts:
    """What a voice offers to choose from, and what it is where nothing is chosen.

    Attributes:
        presets: empty for a voice that has no denoising steps.
        programs, plays_drums: as those of the voice's card.
        follows: names of ``midi.remarks.CAPABILITIES``.
    """

    presets: tuple[str, ...]
    is_stereo: bool
    sample_rate_hz: int
    programs: tuple[int, ...] | None
    plays_drums: bool
    follows: frozenset[str]


class Voices:
    """Those that visitors may choose from. One that was used stays loaded."""

    def __init__(self, models: Sequence[str]) -> None:
        """``models``: names and folders, the default first."""
        self._models: dict[str, str] = {}
        for model in models:
            self._models.setdefault(_public_name(model, self._models), model)
        self._synthesizers: dict[str, Synthesizer] = {}
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """As visitors see them."""
        return list(self._models)

    def find(self, name: str) -> "VoiceCard":
        """Raises UsageError: the page has no such voice. WeightsError: it cannot be used."""
        from specdiff_cli.weights.voices import find_voice

        if name not in self._models:
            raise UsageError(f"{shown_name(name)}: is not one of the voices of this page")
        return find_voice(self._models[name])

    def facts(self, name: str) -> VoiceFacts:
        """Raises as :meth:`find`."""
        from specdiff_cli.diffusion.presets import PRESETS
        from specdiff_cli.diffusion.sampling import FIXED_SAMPLING
        from specdiff_cli.rendering.record import settle
        from specdiff_cli.rendering.request import Request

        card = self.find(name)
        settled = settle(Request(), card)
        return VoiceFacts(
            presets=() if card.kind in FIXED_SAMPLING else tuple({**card.presets, **PRESETS}),
            is_stereo=settled.sound.stereo,
            sample_rate_hz=settled.sound.sample_rate_hz,
            programs=card.programs,
            plays_drums=card.plays_drums,
            follows=settled.follows,
        )

    def loaded(self, name: str) -> "Synthesizer":
        """Raises as :meth:`find`, and DeviceError."""
        self.find(name)
        with self._lock:
            if name not in self._synthesizers:
                from specdiff_cli.engine.loading import load_synthesizer

                self._synthesizers[name] = load_synthesizer(self._models[name])
            return self._synthesizers[name]

    def public_line(self, line: str) -> str:
        """A line in which folders of voices, those of the package and of the cache too, have their public names."""
        for name, model in self._models.items():
            with suppress(SpecdiffError):
                line = line.replace(str(self.find(name).folder), name)
            if name != model:
                line = line.replace(os.path.realpath(model), name).replace(model, name)
        return line


def _public_name(model: str, taken: dict[str, str]) -> str:
    plain = shown_name(Path(os.path.realpath(model)).name) if any(sign in model for sign in "/\\") else model
    if taken.get(plain, model) == model:
        return plain
    return next(name for n in range(2, len(taken) + 3) if (name := f"{plain} ({n})") not in taken)
