from pathlib import Path

import mido
import soundfile
from command_line import specdiff

from specdiff_cli.weights.lock import verify_bundled


def test_the_bundled_voice_is_the_default_and_verified(tmp_path: Path) -> None:
    verify_bundled("tiny")
    midi = mido.MidiFile()
    midi.tracks.append(
        mido.MidiTrack([mido.Message("note_on", note=60, velocity=80), mido.Message("note_off", note=60, time=480)])
    )
    midi.save(tmp_path / "a.mid")
    result = specdiff("render", tmp_path / "a.mid", "-o", tmp_path / "a.wav")
    assert result.exit_code == 0, result.stderr
    assert "tiny + " in result.stderr
    audio, rate = soundfile.read(tmp_path / "a.wav")
    assert (rate, audio.shape[1]) == (44_100, 2), "the voice's own rate and channels"
    assert abs(audio).max() > 0.01
