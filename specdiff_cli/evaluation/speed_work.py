"""What is measured: voices, those with random weights among them, and pieces to render."""

from collections.abc import Callable
from pathlib import Path

import torch

from specdiff_cli.audio.vocoder import Vocoder
from specdiff_cli.choices import DEFAULT_VOICE
from specdiff_cli.diffusion.presets import find_preset
from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.engine.vocoders import load_vocoder
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.evaluation.request import SpeedOptions
from specdiff_cli.midi.notes import Note, read_midi
from specdiff_cli.model.config import REFERENCE_CONFIGS
from specdiff_cli.model.network import Network, SpectrogramDiffusion, build_network
from specdiff_cli.model.storage import without_storage
from specdiff_cli.rendering.record import TEMPLATES_SOUND
from specdiff_cli.weights.load import Precision, Voice, chosen_dtype, load_voice
from specdiff_cli.weights.voice_file import VocoderSpec

NOTES_PER_SECOND = 20  # about 600 tokens in a window of 5.12 s, a dense piece


def load_for_speed(options: SpeedOptions) -> tuple[Synthesizer, Sampling]:
    """Load the voice. Raises UsageError, WeightsError, DeviceError."""

    def heard(voice: Voice) -> Vocoder | str | None:
        # Random weights come without a vocoder: the bundled voice's stands in.
        is_lent = options.random_weights and options.vocoder != "partials"
        return load_vocoder(load_voice(DEFAULT_VOICE), options.vocoder) if is_lent else options.vocoder

    usual_rate_hz, is_stereo = TEMPLATES_SOUND
    synthesizer = load_synthesizer(
        options.model,
        vocoder=heard,
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
        sample_rate_hz=options.sample_rate or usual_rate_hz,
        n_channels=2 if (is_stereo if options.stereo is None else options.stereo) else 1,
        load=random_voice if options.random_weights else load_voice,
    )
    voice = synthesizer.voice
    chosen = voice.sampling if options.preset is None else find_preset(options.preset, voice.presets).sampling
    given = {name: getattr(options, name) for name in ("steps", "sampler", "guidance", "reuse_every")}
    return synthesizer, chosen.with_given(**given)


def piece_of(song: Path | None, duration_s: float) -> tuple[Callable[[], list[Note]], float]:
    """What to render, and for how long: a file's first ``duration_s``, or a dense piece of that length.

    Raises MidiError.
    """
    if song is None:
        return (lambda: dense_notes(duration_s)), duration_s
    return (lambda: list(read_midi(song).notes)), min(duration_s, read_midi(song).end_s)


def random_voice(name: str, dtype: Precision) -> Voice:
    """A voice of a known size whose weights are random: as fast as the real one, and nothing to download.

    ``dtype``: of the weights in memory, as in :func:`~specdiff_cli.weights.load.load_voice`.

    Raises:
        UsageError: not the name of a known size.
    """
    if name == DEFAULT_VOICE:
        tiny = load_voice(DEFAULT_VOICE)
        config, sampling, prefers_bfloat16 = tiny.network.config, tiny.sampling, tiny.prefers_bfloat16
    elif name in REFERENCE_CONFIGS:
        config = REFERENCE_CONFIGS[name]
        sampling, prefers_bfloat16 = Sampling(20, "dpm++2m", "magenta"), False
    else:
        known = ", ".join([DEFAULT_VOICE, *REFERENCE_CONFIGS])
        what = Option("random_weights"), " ", Option("model", name)
        raise UsageError(*what, f": the known sizes are {known}", option="model", value=name)
    network: Network
    if not config.denoises:
        network, (sampling, _) = build_network(config), FIXED_SAMPLING[config.kind]
    else:
        with without_storage():
            network = SpectrogramDiffusion(config)
        # Made in the precision that is asked for: base in float32 would need 1.6 GB before anything begins.
        network = network.to(chosen_dtype(dtype, prefers_bfloat16)).to_empty(device="cpu")
    _fill_randomly(network.eval())
    return Voice(
        name=f"{name} (random weights)",
        folder=Path(),
        network=network,
        sampling=sampling,
        vocoder=VocoderSpec("griffin-lim"),
        prefers_bfloat16=prefers_bfloat16,
    )


def _fill_randomly(network: Network) -> None:
    """Normal values of each layer's proper size. One block of them is repeated: 400 million draws take long."""
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))  # a prime: no two rows are alike
    for name, parameter in network.named_parameters():
        scale = parameter.shape[-1] ** -0.5
        if name.endswith("attention.q.weight"):
            scale *= network.config.d_kv**-0.5  # as in trained ones, since attention itself does not scale
        for piece in torch.split(parameter.data.view(-1), len(block)):
            piece.copy_(torch.ones(len(piece)) if parameter.ndim == 1 else scale * block[: len(piece)])


def dense_notes(duration_s: float) -> list[Note]:
    """A piece for measuring: an even stream of overlapping piano notes."""
    return [
        Note(i / NOTES_PER_SECOND, min((i + 2.5) / NOTES_PER_SECOND, duration_s), 36 + i * 7 % 48, 80, 0, False)
        for i in range(int(duration_s * NOTES_PER_SECOND))
    ]
