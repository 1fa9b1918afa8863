"""An evaluation from what was asked for: pieces read, voices loaded, judges opened, circumstances written down."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specdiff_cli.audio.vocoder import Vocoder
from specdiff_cli.choices import (
    DEFAULT_MAX_DURATION_S,
)
from specdiff_cli.corpus.soundfont import FluidSynth
from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.engine.vocoders import knows_notes, load_vocoder
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.evaluation.embedding import OnnxEmbedding
from specdiff_cli.evaluation.evaluate import Evaluation, Judges, Subject, read_pieces
from specdiff_cli.evaluation.musicnn import MusicNN
from specdiff_cli.evaluation.opinion import Opinion
from specdiff_cli.evaluation.request import EvaluationRequest
from specdiff_cli.evaluation.sounds import Probe, SoundRow, compare_sounds, probes
from specdiff_cli.evaluation.transcriber import OnnxTranscriber
from specdiff_cli.files import files_below
from specdiff_cli.rendering.inputs import expand
from specdiff_cli.weights.load import Voice
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voices import VoiceCard, find_voice

WEIGHT_SUFFIXES = (".toml", ".json", ".safetensors", ".bin", ".onnx")


def make_ready(
    request: EvaluationRequest, on_message: Callable[[str], None] = lambda line: None
) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation, and the circumstances that its report states.

    Args:
        on_message: told what of the result compares with no others.

    Raises:
        MidiError: a piece that cannot be read.
        UsageError, WeightsError, DeviceError: a judge, a soundfont or a voice that cannot be loaded.
    """
    files = [source.path for item in request.midi for source in expand(item)]
    pieces = read_pieces(files, DEFAULT_MAX_DURATION_S, request.reference_audio)
    ear = None if request.no_transcriber else OnnxTranscriber(request.transcriber, request.threads or 0)
    if ear is not None and not ear.is_known:
        on_message(
            f"transcriber {ear.sha256[:12]}… is not the file of basic-pitch 0.4.0: its scores compare with no others"
        )
    features = _features(request)
    teacher = None if request.soundfont is None else FluidSynth(request.soundfont, request.gain)
    subjects, hashes = load_subjects(request)
    judges = Judges(ear, Opinion() if request.opinion else None, features)
    circumstances = {
        "max_seconds": request.max_seconds,
        "soundfont": None if request.soundfont is None else request.soundfont.name,
        "soundfont_sha256": None if request.soundfont is None else file_sha256(request.soundfont),
        "gain": request.gain,
        "transcriber": None if ear is None else ear.name,
        "transcriber_sha256": None if ear is None else ear.sha256,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "voices": hashes,
        **_described(features),
    }
    return Evaluation(pieces, subjects, teacher, judges, request.max_seconds), circumstances


def compare_with_soundfont(request: EvaluationRequest, soundfont: Path) -> dict[str, list[SoundRow]]:
    """Voice -> every program and drum key alone beside the soundfont's, with its first number of steps."""
    teacher = FluidSynth(soundfont, request.gain)
    subjects, _ = load_subjects(request)
    return {subject.label: _sound_table(subject, teacher) for subject in subjects}


def _sound_table(subject: Subject, teacher: FluidSynth) -> list[SoundRow]:
    synthesizer, sampling = subject.synthesizer, subject.samplings[0]

    def voice(probe: Probe) -> np.typing.NDArray[np.float32]:
        notes, _ = synthesizer.playable(probe.song().notes)
        if not notes:  # a voice without drums
            return np.zeros(0, np.float32)
        return np.concatenate(list(synthesizer.stream(notes, probe.duration_s, sampling)))

    return list(compare_sounds(probes(), lambda probe: teacher.render(probe.midi()), voice))


def load_subjects(request: EvaluationRequest) -> tuple[list[Subject], list[dict[str, Any]]]:
    """The voices ready to render, and what their files are. Raises WeightsError, UsageError, DeviceError."""
    names = list(dict.fromkeys(request.voices))
    cards = [find_voice(name) for name in names]
    labels = _labels([card.name for card in cards], names)
    samplings = [tuple(_samplings(card, request)) for card in cards]  # before anything takes long
    vocoders: dict[tuple[str | None, ...], Vocoder] = {}
    subjects, hashes = [], []
    for card, label, chosen in zip(cards, labels, samplings, strict=True):
        sha256 = _hashes(card.folder)

        def shared(voice: Voice, sha256: dict[str, str] = sha256) -> Vocoder | str | None:
            if knows_notes(voice, request.vocoder):  # it is the voice's own
                return request.vocoder
            # One object for equal vocoders: what it makes of a reference is then made once.
            key = (request.vocoder or voice.vocoder.name, sha256.get("vocoder.safetensors"), str(voice.vocoder.sizes))
            if key not in vocoders:
                vocoders[key] = load_vocoder(voice, request.vocoder)
            return vocoders[key]

        synthesizer = load_synthesizer(
            card.model, vocoder=shared, device=request.device, dtype=request.dtype, threads=request.threads
        )
        subjects.append(Subject(label, synthesizer, chosen))
        hashes.append({"voice": label, "sha256": sha256})
    return subjects, hashes


def _samplings(voice: VoiceCard, request: EvaluationRequest) -> list[Sampling]:
    if voice.kind in FIXED_SAMPLING:
        for option in ("steps", "sampler", "schedule", "guidance"):
            if getattr(request, option) not in (None, ()):
                why = f": the voice {voice.name} {FIXED_SAMPLING[voice.kind][1]}, without denoising; leave it out"
                raise UsageError(Option(option), why, option=option)
    first = voice.sampling.with_given(
        sampler=request.sampler, schedule=request.schedule, guidance=request.guidance, seed=request.seed
    )
    return [replace(first, steps=steps) for steps in request.steps or (first.steps,)]


def _labels(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The voices' names, or where two are alike the folders they came from."""
    for labels in (names, [Path(argument).name for argument in arguments]):
        if len(set(labels)) == len(labels):
            return list(labels)
    return list(arguments)


def _hashes(folder: Path) -> dict[str, str]:
    """Of the files that make the voice; a folder may hold others beside them."""
    files = files_below(folder, WEIGHT_SUFFIXES)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _features(request: EvaluationRequest) -> OnnxEmbedding | MusicNN | None:
    if request.embedding is None:
        return MusicNN() if request.frechet else None
    if request.frechet:
        raise UsageError(
            Option("frechet"), " and ", Option("embedding"), " compare different features: give one of them"
        )
    return OnnxEmbedding(request.embedding)


def _described(features: OnnxEmbedding | MusicNN | None) -> dict[str, Any]:
    """Which network's features the Fréchet distances are of."""
    if isinstance(features, OnnxEmbedding):
        return {"features": features.path.name, "features_sha256": features.sha256}
    return {} if features is None else {"features": "musicnn 0.1.0"}
