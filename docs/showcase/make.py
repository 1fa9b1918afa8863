"""Makes the picture and the samples of README.md with the bundled voice.

    python docs/showcase/make.py SOUNDFONT.sf3

The tune is that of examples/demo_song.py (a minuet in the public domain). The soundfont is what the bundled voice
learnt from; its render is the lower spectrogram of the picture. Needs the
extras "plot" and "train", and FluidSynth's library.
"""

import runpy
import sys
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt
import torch

from specdiff_cli import Synthesizer, load_voice, read_midi, render_files
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from specdiff_cli.corpus.soundfont import GAIN, FluidSynth
from specdiff_cli.midi.notes import MidiSong
from specdiff_cli.rendering.events import Failed

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "demo_song.py"
SHOWN_S = 12.0
SAMPLES: dict[str, tuple[str, ...]] = {"minuet": (), "minuet-flute-and-harp": ("track:2:flute", "track:3:harp")}

Audio = npt.NDArray[np.float32]


def main() -> None:
    """Render, write the samples, draw the picture."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    midi_path = HERE / "demo.mid"
    sys.argv, soundfont = [str(EXAMPLE), str(midi_path)], Path(sys.argv[1])
    synthesizer = Synthesizer(load_voice("tiny"))
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        song, midi = read_midi(midi_path), mido.MidiFile(midi_path)
        for name, programs in SAMPLES.items():
            write(midi_path, HERE / f"{name}.ogg", synthesizer, programs)
    finally:
        midi_path.unlink(missing_ok=True)
    draw(song, synthesizer.render(song), FluidSynth(soundfont, GAIN).render(midi).astype(np.float32))


def write(song: Path, path: Path, synthesizer: Synthesizer, programs: tuple[str, ...]) -> None:
    """Ogg Vorbis, 44.1 kHz in stereo; half a minute in some 250 kB."""
    wishes = {"program": programs, "normalize": "-16LUFS", "quality": 2, "overwrite": True}
    for event in render_files(song, output=path, synthesizer=synthesizer, **wishes):
        if isinstance(event, Failed):
            sys.exit(str(event.error))


def equally_loud(audio: Audio) -> Audio:
    """At a root mean square of -26 dB."""
    return audio * np.float32(0.05 / np.sqrt(np.mean(audio**2)))


def draw(song: MidiSong, ours: Audio, teacher: Audio) -> None:
    """Piano roll, our spectrogram, the soundfont's, and our waveform, of the first seconds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, (roll, upper, lower, wave) = pyplot.subplots(
        4, 1, figsize=(9, 7), sharex=True, height_ratios=(1, 1.5, 1.5, 0.6), layout="constrained"
    )
    for note in song.notes:
        roll.barh(note.pitch, note.end_s - note.start_s, left=note.start_s, height=0.9, color="#2f6f9f")
    roll.set_ylabel("pitch")
    ours, teacher = equally_loud(ours), equally_loud(teacher)
    for axes, audio, title in ((upper, ours, "specdiff (tiny)"), (lower, teacher, "soundfont")):
        n_samples = round(SHOWN_S * SAMPLE_RATE_HZ)
        mel = log_mel(torch.from_numpy(np.ascontiguousarray(audio[:n_samples]))).numpy().T
        extent = (0, mel.shape[1] / FRAMES_PER_SECOND, 0, mel.shape[0])
        axes.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=-9, vmax=2, cmap="magma")
        axes.set_ylabel(f"{title}\nmel band")
    times_s = np.arange(len(ours)) / SAMPLE_RATE_HZ
    wave.plot(times_s[::8], ours[::8], linewidth=0.3, color="#2f6f9f")
    wave.set(xlim=(0, SHOWN_S), xlabel="seconds", ylabel="samples", yticks=())
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    Image.fromarray(pixels).convert("RGB").quantize(64).save(HERE / "minuet.png", optimize=True)


if __name__ == "__main__":
    main()
