import json
from pathlib import Path

import numpy as np
import pytest
import torch
from soundfonts import SOUNDFONTS, needs_soundfont

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import N_MELS
from specdiff_cli.corpus import atlas
from specdiff_cli.corpus.atlas import LEAD_S, RATE_HZ, AtlasConfig, Preset, frame_times, log_powers, strokes
from specdiff_cli.errors import UsageError


def test_mel_bands_at_48_khz_are_those_of_the_reference_at_16_khz() -> None:
    times_s = np.arange(16000) / 16000
    partials = [(0.5, 220.0, 0.3), (0.2, 1234.5, 1.1), (0.05, 5100.0, 2.0)]
    low = sum(a * np.sin(2 * np.pi * f * times_s + p) for a, f, p in partials)
    fine_s = np.arange(RATE_HZ) / RATE_HZ
    high = sum(a * np.sin(2 * np.pi * f * fine_s + p) for a, f, p in partials)
    reference = log_mel(torch.from_numpy(np.asarray(low)).float())[5:40].numpy()
    found = log_powers(np.asarray(high, dtype=np.float32), np.asarray(np.arange(5, 40) * 0.02, dtype=np.float64))
    audible = reference > np.log(1e-3)
    np.testing.assert_allclose(0.5 * found[:, :N_MELS][audible], reference[audible], atol=5e-3)


def test_a_tone_above_8_khz_is_in_its_band_with_its_power() -> None:
    # A full-scale sinusoid under the window: amplitude 1/2 times the window's sum, and its square's spectrum adds up
    # by Parseval to n_fft * sum(window^2) / 4 (one side), in units of the analysis at 16 kHz.
    tone = np.sin(2 * np.pi * 10_000 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    bands = log_powers(tone, np.array([0.3]))[0, N_MELS:]
    window = torch.hann_window(640, dtype=torch.float64)
    expected = np.log(1024 * float(window.square().sum()) / 4)
    assert bands.argmax() == 2  # 9500 to 10 250 Hz
    assert abs(bands[2] - expected) < 0.02


def test_frames_are_fine_around_onset_and_end_and_begin_before_the_onset() -> None:
    times_s = frame_times(1.0, 1.5, 0.25)
    assert times_s[0] < -LEAD_S + 0.005
    near_onset = times_s[times_s < 0.2]
    np.testing.assert_allclose(np.diff(near_onset), 0.005, atol=1e-9)
    assert np.diff(times_s).max() <= 0.0201
    assert ((times_s > 0.96) & (times_s < 1.1)).sum() >= 28


def test_strokes_cover_every_key_with_soft_and_loud_long_and_short_notes() -> None:
    made = strokes(Preset(3, False, 3), AtlasConfig("font.sf3"))
    assert {stroke.pitch for stroke in made} == set(range(12, 120))
    assert all(stroke.lead_samples == LEAD_S * RATE_HZ for stroke in made)
    assert min(stroke.velocity for stroke in made) < 20 and max(stroke.velocity for stroke in made) > 120
    holds_s = np.array([stroke.hold_samples / RATE_HZ for stroke in made])
    assert holds_s.min() < 0.06 and holds_s.max() > 4.4
    assert made == strokes(Preset(3, False, 3), AtlasConfig("font.sf3"))


@pytest.fixture
def config() -> AtlasConfig:
    return AtlasConfig(str(SOUNDFONTS[0]), lowest_pitch=60, highest_pitch=60, lowest_key=36, highest_key=37)


@needs_soundfont
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda record: record | {"atlas_version": 2}, "is an atlas of version 2, this is 4: give another"),
        (lambda record: record | {"settings": record["settings"] | {"gain": 0.5}}, "was made with other settings"),
        (lambda record: None, "is damaged: give another"),
    ],
    ids=["version", "settings", "damaged"],
)
def test_a_folder_of_another_atlas_is_refused_and_left_as_it_is(
    tmp_path: Path, config: AtlasConfig, change: object, told: str
) -> None:
    assert callable(change)
    record = change(json.loads(json.dumps(atlas._record(config))))
    before = "{" if record is None else json.dumps(record)
    (tmp_path / "atlas.json").write_text(before)
    with pytest.raises(UsageError, match=told):
        next(atlas.make_atlas(tmp_path, config, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["atlas.json"]
    assert (tmp_path / "atlas.json").read_text() == before


@needs_soundfont
@pytest.mark.slow
def test_an_interrupted_atlas_is_completed_to_the_same_bytes(
    tmp_path: Path, config: AtlasConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = atlas.plan(config)
    monkeypatch.setattr(atlas, "plan", lambda config: [whole[0], whole[-1]])
    assert len(list(atlas.make_atlas(tmp_path, config, 1))) == 2
    first, second = sorted(tmp_path.glob("*.npz"))
    contents = first.read_bytes(), second.read_bytes()
    assert set(atlas.PRESET_ARRAYS) <= set(atlas.read_preset(first))
    first.write_bytes(contents[0][:1000])
    second.rename(second.with_suffix(".npz.partial"))
    list(atlas.make_atlas(tmp_path, config, 1))
    assert (first.read_bytes(), second.read_bytes()) == contents
    assert not list(tmp_path.glob("*.partial"))


def test_a_preset_without_what_this_version_stores_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "program-000.npz", notes=np.zeros(1, atlas.NOTE_DTYPE), facts=np.zeros((128, 7)))
    with pytest.raises(UsageError, match="is no preset of an atlas: make it again"):
        atlas.read_preset(tmp_path / "program-000.npz")
