"""Turn training runs into a voice folder, and write its hashes into ``weights.lock``."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as safetensors_bytes

from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.files import already_there, files_in, size_bytes
from specdiff_cli.midi.programs import MODEL_CLASSES
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.train.run_folder import write_atomically, write_text_atomically
from specdiff_cli.weights.load import load_voice_folder, read_tensors
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voice_file import (
    FEATURES,
    STAGES,
    VOCODER_FILE,
    VOICE_FILE,
    WEIGHTS_FILE,
    VocoderSpec,
    VoiceFile,
    as_tuples,
    vocabulary_table,
    write_voice_file,
)
from specdiff_cli.wording import count

LICENSE = "Apache-2.0"
NAMED_INSTRUMENTS = 3  # a description that would name more of them counts them
#: What a voice folder holds; the last one says what the others are.
VOICE_FILES = (WEIGHTS_FILE, VOCODER_FILE, *STAGES.values(), VOICE_FILE)


@dataclass(frozen=True)
class Plays:
    """The model classes of a voice, by their first General MIDI programs, and whether it plays drums."""

    programs: tuple[int, ...]
    drums: bool

    def describe(self, n_kits: int = 0) -> str:
        """A few words for tables; ``n_kits`` of voices that play programs and kits by themselves."""
        if n_kits:
            return f"{count(len(self.programs), 'General MIDI program')} and {count(n_kits, 'drum kit')}, with dynamics"
        names = [MODEL_CLASSES[program] for program in self.programs]
        if len(names) > NAMED_INSTRUMENTS:
            names = [f"{len(names)} instruments"]
        if self.drums:
            names.append("drums")
        return f"{', '.join(names) or 'nothing'}; trained from scratch"


def export(
    run: Path,
    voice: Path,
    sampling: Sampling,
    *,
    vocoder_runs: Sequence[Path] = (),
    description: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write ``model.safetensors`` (float16), what vocoder runs gave, and ``voice.toml``.

    The folder is made beside its place and read back before it takes its name; without a vocoder run the voice sounds
    through partials. The ``sampling`` of one that consists of note templates is fixed. There may be a run of each
    head. Returns the description.

    Raises:
        UsageError: not a run, two of one head, a stage of partials for a voice without note templates, or ``voice``
            exists and ``overwrite`` is false.
        WeightsError: weights that are damaged or do not fit.
        OutputError: the folder cannot be written.
    """
    about = _read_json(run / "config.json", ("model", "train", "plays"))
    played = Plays(tuple(about["plays"]["programs"]), about["plays"]["drums"])
    config = _model_config(run / "config.json", about["model"])
    description = description or played.describe(len(config.kits))
    if not config.denoises:
        sampling, _ = FIXED_SAMPLING[config.kind]
    vocoder = VocoderSpec("partials")
    sources = {WEIGHTS_FILE: run / "model.safetensors"}
    for vocoder_run in vocoder_runs:
        vocoder, target = _with_run(vocoder, vocoder_run, config)
        if target in sources:
            raise UsageError(f"{vocoder_run}: is a second vocoder of its kind; give one run of each")
        sources[target] = vocoder_run / "vocoder.safetensors"
    if not overwrite and not _is_free(voice):
        raise already_there(voice)
    described = VoiceFile(
        name=Path(os.path.realpath(voice)).name,
        description=description,
        license=LICENSE,
        model=config,
        sampling=sampling,
        vocoder=vocoder,
        programs=played.programs,
        plays_drums=played.drums,
        prefers_bfloat16=about["train"].get("precision") in ("auto", "bfloat16"),
        features=FEATURES,
        vocabulary=vocabulary_table(config),
    )
    try:
        voice.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{voice.name}-", dir=voice.parent) as name:
            made = Path(name) / described.name
            made.mkdir()
            for target, source in sources.items():
                _save_half(source, made / target)
            hashes = {target: file_sha256(made / target) for target in sources}
            write_voice_file(made / VOICE_FILE, replace(described, hashes=hashes))
            load_voice_folder(made)  # what we wrote must be what we read
            _move(made, voice)
    except OSError as error:
        raise OutputError(f"cannot write {voice}: {error.strerror or error}") from None
    return description


def _is_free(voice: Path) -> bool:
    """Is there nothing in the place of a new voice?"""
    try:
        return not os.path.lexists(voice) or not os.listdir(voice)
    except OSError:  # a file, or a folder that cannot be looked into
        return False


def _with_run(vocoder: VocoderSpec, run: Path, config: ModelConfig) -> tuple[VocoderSpec, str]:
    """A vocoder with what a run of `train vocoder` made, and the name of its file. Raises UsageError."""
    sizes = dict(_read_json(run / "vocoder.json", ("sizes",))["sizes"])
    stage = sizes.get("head")
    if stage not in STAGES:
        # A voice that knows its notes keeps it for sound without notes.
        return replace(vocoder, name=vocoder.name if config.is_templates else "spectral", sizes=sizes), VOCODER_FILE
    if not config.is_templates:
        raise UsageError(f"{run}: is a stage of partials, which only voices of note templates sound through")
    del sizes["head"]
    return replace(vocoder, stages={**vocoder.stages, stage: sizes}), STAGES[stage]


def _move(made: Path, voice: Path) -> None:
    """Give the files of a finished folder their names; the description comes last. Raises OSError."""
    voice.mkdir(exist_ok=True)
    for name in VOICE_FILES:
        if os.path.exists(made / name):
            (made / name).replace(voice / name)
        else:
            (voice / name).unlink(missing_ok=True)
    shutil.rmtree(made)


def update_lock(lock: Path, voice: Path, description: str) -> None:
    """Replace the ``[bundled.NAME]`` section of the lock by the hashes of the folder's files.

    Everything else in it stays as it is. Raises UsageError when it has no such section, OutputError when it cannot be
    read or written.
    """
    name = Path(os.path.realpath(voice)).name
    lines = [
        f"[bundled.{name}]",
        f"description = {json.dumps(description, ensure_ascii=False)}",
        f'license = "{LICENSE}"',
        "",
    ]
    for path in [path for path in files_in(voice) if path.name in VOICE_FILES]:
        lines += [
            f"[[bundled.{name}.files]]",
            f'path = "{path.name}"',
            f"size_bytes = {size_bytes(path)}",
            f'sha256 = "{file_sha256(path)}"',
            "",
        ]
    text = read_lock_text(lock, voice)

    def section(found: re.Match[str]) -> str:
        return "\n".join([*lines, ""] if found.end() < len(text) else lines)  # a blank line before the next section

    write_text_atomically(lock, _section(name).sub(section, text))


def read_lock_text(lock: Path, voice: Path) -> str:
    """The lock's text, once it is known to have a section for the voice. Raises UsageError, OutputError."""
    name = Path(os.path.realpath(voice)).name
    try:
        text = lock.read_text(encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot read {lock}: {error.strerror or error}") from None
    if not _section(name).search(text):
        raise UsageError(f"{lock}: has no section [bundled.{name}] to replace; add an empty one")
    return text


def _section(name: str) -> re.Pattern[str]:
    own = rf"bundled\.{re.escape(name)}\b"
    return re.compile(rf"^\[{own}\]\n.*?(?=^\[(?!\[?{own})|\Z)", re.M | re.S)


def _read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: does not exist; give the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give the folder of a run") from None
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise UsageError(f"{path}: has no {missing[0]!r} (of an older specdiff?); train on to write it again")
    return dict(content)


def _model_config(path: Path, values: Mapping[str, Any]) -> ModelConfig:
    try:
        return ModelConfig(**{key: as_tuples(value) for key, value in values.items()})
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: [model] is not of this specdiff ({error}); train on to write it again") from None


def _save_half(source: Path, target: Path) -> None:
    tensors = {key: tensor.half().contiguous() for key, tensor in read_tensors(source).items()}
    write_atomically(target, lambda file: file.write(safetensors_bytes(tensors)))
