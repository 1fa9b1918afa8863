"""A downloaded checkpoint to a voice beside it in the cache, with the hashes that later loads are held to."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from specdiff_cli.errors import OutputError, WeightsError
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.weights import cache
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.checkpoints.target import About, write_voice
from specdiff_cli.weights.lock import LockedModel, endpoint, file_sha256
from specdiff_cli.weights.progress import Action, Progress
from specdiff_cli.weights.voice_file import VOICE_FILE, WEIGHTS_FILE, VocoderSpec

SCRATCH_FOLDER = ".converting"


def make_voice(model: LockedModel, folder: Path, progress: Progress) -> None:
    """Convert the verified checkpoint of a model; the caller holds the right to change the folder.

    Both files are complete, on the disk and read back before either gets its name; only then are their hashes recorded,
    with that of the checkpoint. An interrupted conversion leaves nothing that would be loaded.

    Raises WeightsError: not a checkpoint that fits, or the cache cannot be written.
    """
    checkpoint = model.checkpoint
    expected = None if checkpoint is None else cache.expected_sha256(folder, checkpoint)
    if checkpoint is None or expected is None:
        raise WeightsError(f"{model.name}: there is no verified checkpoint to convert")
    progress.start(checkpoint.path, Action.CONVERTING, 0, None)
    origin = f"{checkpoint.resolved_url(endpoint())}, sha256 {expected}"
    scratch = folder / SCRATCH_FOLDER
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        scratch.mkdir()
        source = read_source(str(folder / checkpoint.path))
        _require_architecture(model, source.voice.network.config, folder / checkpoint.path)
        # The vocoder was downloaded beside the checkpoint.
        voice = replace(source.voice, folder=folder, vocoder=VocoderSpec("soundstream"))
        about = About(model.name, model.description, model.license, origin)
        write_voice(scratch / "voice", voice, about, overwrite=False)
        for file in cache.made_files(model):
            sha256 = file_sha256(scratch / "voice" / file.path)
            os.replace(scratch / "voice" / file.path, folder / file.path)
            cache.record_verified(folder, file, sha256, made_of=expected)
    except OutputError as error:
        if isinstance(error.__context__, OSError):
            cache.raise_cannot_write(scratch, error.__context__)
        raise
    except OSError as error:
        cache.raise_cannot_write(scratch, error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress.finish(WEIGHTS_FILE, f"ok, converted from {checkpoint.path}, see {folder / VOICE_FILE}")


def _require_architecture(model: LockedModel, config: ModelConfig, path: Path) -> None:
    """Raises WeightsError for the checkpoint of another model: one without a known hash could be any."""
    if model.architecture is None:
        return
    expected = REFERENCE_CONFIGS[model.architecture]
    for name in ("kind", "d_model", "n_heads", "d_kv", "d_ff", "n_note_layers", "n_context_layers", "n_decoder_layers"):
        found, wanted = getattr(config, name), getattr(expected, name)
        if found != wanted:
            raise WeightsError(
                f"{path}: is not the model {model.name}: its {name} is {found}, expected {wanted}: delete it and the "
                f"record of its hash, {cache.RECORDS_FOLDER}/{path.name}.json beside it, to fetch it again"
            )
