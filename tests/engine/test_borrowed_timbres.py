"""Networks that bring no vocoder: the bundled voice's note templates and the notes make their sound."""

from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import write_diffusers_folder

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.engine.timbres import NoteTimbres, SongNotes
from specdiff_cli.midi.notes import Note
from specdiff_cli.weights.load import load_voice

NOTES = [Note(0.3, 1.2, 60, 100, 0, False), Note(0.8, 1.6, 64, 80, 40, False), Note(1.0, 1.1, 38, 100, 0, True)]
QUICK = Sampling(2, "ddim", "magenta")


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder: Path = write_diffusers_folder(tmp_path_factory.mktemp("voice") / "published")
    return Synthesizer(load_voice(str(folder)), device="cpu", dtype="float32")


def test_a_published_network_sounds_through_partials(synthesizer: Synthesizer) -> None:
    assert synthesizer.vocoder.name == "partials"
    assert synthesizer.mel_vocoder.name == "griffin-lim"
    audio = synthesizer.render(NOTES, 2.0, QUICK)
    assert audio.shape == (32_000,)
    assert np.isfinite(audio).all()
    np.testing.assert_array_equal(synthesizer.render(NOTES, 2.0, QUICK), audio)
    plain = synthesizer.with_vocoder("griffin-lim")
    assert plain.vocoder.name == "griffin-lim"


def test_stereo_and_44_khz_are_made_in_one_pass(synthesizer: Synthesizer) -> None:
    audio = synthesizer.giving("partials", 44_100, 2).render(NOTES, 1.0, QUICK)
    assert audio.shape == (44_100, 2)
    assert np.isfinite(audio).all()


def test_its_sound_meets_a_mel_that_no_template_knows(synthesizer: Synthesizer) -> None:
    timbres = getattr(synthesizer.vocoder, "timbres", None)
    assert isinstance(timbres, NoteTimbres)
    score = SongNotes.of(NOTES, timbres.frames)
    wanted = score.log_mel(0, 100) + torch.linspace(-1.0, 1.0, 128)
    stream = synthesizer.vocoder.open(score.played, 0, score.log_mel)  # type: ignore[union-attr]
    audio = torch.cat([stream.push(wanted), stream.flush()], dim=1)[0]
    loud = wanted > wanted.max() - 5
    assert float((log_mel(audio)[:100] - wanted)[loud].abs().mean()) < 0.25
