"""What models there are, where they lie, and what is known about them: of the lock, of the cache, and of folders.

Nothing here loads PyTorch or reads weights, save to hash the files of the package and of folders that users name.
"""

import json
import math
import os
from dataclasses import dataclass
from os.path import isdir, isfile  # unlike Path's, they answer no where looking is not allowed
from pathlib import Path
from typing import Any

from specdiff_cli.constants import MAX_TOKENS, N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import WeightsError
from specdiff_cli.files import reason
from specdiff_cli.files import size_bytes as size_bytes_of
from specdiff_cli.midi.programs import MODEL_CLASSES, N_PROGRAMS
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.weights import cache, lock
from specdiff_cli.weights.cache import FileState
from specdiff_cli.weights.lock import BundledVoice, Lock, LockedFile, LockedModel, endpoint
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_PARTS,
    FOLDER_FILES,
    ONNX_VOCODER,
    UNKNOWN_LICENCE,
    VOICE_FILE,
    WEIGHTS_FILE,
    VoiceFile,
    diffusers_weights,
    read_voice_file,
)
from specdiff_cli.weights.voices import VoiceCard, described_card, published_card

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model. ``sha256`` is what the lock (or a voice's own file) says, ``recorded_sha256`` what was seen
    on first use; ``size_bytes`` is None where nobody knows it yet."""

    path: str
    state: str
    size_bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    recorded_sha256: str | None = None
    url: str | None = None
    revision: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model at one place. ``kind``: bundled, download or folder. ``state``: bundled, downloaded, partly downloaded,
    available, folder or damaged."""

    model: str
    kind: str
    source: str
    state: str
    description: str
    license: str
    instruments: str
    revision: str | None
    folder: str
    files: tuple[FileEntry, ...]

    @property
    def size_bytes(self) -> int | None:
        """Of all files, as far as it is known, estimates included; None where one of the large ones is not."""
        sizes = [file.size_bytes or file.about_bytes for file in self.files if not file.path.endswith(".json")]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def is_estimate(self) -> bool:
        """Whether that size is one."""
        return any(file.size_bytes is None for file in self.files)

    @property
    def hashes(self) -> str:
        """How far the files' hashes are known and agree, in a few words."""
        if self.state in ("bundled", "downloaded", "folder", "damaged"):
            wrong = sorted({file.state for file in self.files} - {FileState.VERIFIED})
            return ", ".join(wrong) or "verified"
        n_pinned = sum(file.sha256 is not None for file in self.files)
        return "pinned" if n_pinned == len(self.files) else f"{n_pinned} of {len(self.files)} pinned"


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of a model: its files, its card, and how to download it from each place (``commands``).

    ``n_parameters`` is None where nothing tells it.
    """

    entry: ModelEntry
    card: VoiceCard
    n_parameters: int | None
    commands: tuple[str, ...] = ()


def list_entries(known: Lock) -> list[ModelEntry]:
    """Every voice of the package and every model at every place. Raises UsageError (``HF_ENDPOINT``)."""
    models = [download_entry(place) for model in known.models.values() for place in model.places]
    return [*(bundled_entry(voice) for voice in known.bundled.values()), *models]


def find_details(name: str, known: Lock) -> Details:
    """Everything about a model by name, or about a folder of weights. Raises WeightsError for what is neither."""
    if name in known.bundled:
        entry = bundled_entry(known.bundled[name])
        return _of_voice(name, entry, read_voice_file(Path(entry.folder) / VOICE_FILE))
    if name in known.models:
        place = cache.at_hand(known.models[name])
        entry = download_entry(place)
        path = Path(entry.folder) / VOICE_FILE
        commands = tuple(cache.download_command(other) for other in known.models[name].places)
        if entry.state == "downloaded" and os.path.isfile(path):
            return _of_voice(name, entry, read_voice_file(path), commands)
        config = None if place.architecture is None else REFERENCE_CONFIGS[place.architecture]
        return _of_published(name, entry, config, commands)
    folder = Path(name)
    if isfile(folder / VOICE_FILE):
        voice = read_voice_file(folder / VOICE_FILE)
        return _of_voice(name, _folder_entry(folder, voice), voice)
    if any(isdir(folder / part) for part in DIFFUSERS_PARTS):
        return _of_published(name, _folder_entry(folder, None), _diffusers_config(folder))
    names = ", ".join(sorted([*known.bundled, *known.models]))
    raise WeightsError(f"{name}: is neither a known model ({names}) nor a folder of weights; check the spelling")


def instruments(programs: tuple[int, ...] | None, plays_drums: bool) -> str:
    """What a voice plays, in a few words; ``programs`` None: everything."""
    played = tuple(MODEL_CLASSES) if programs is None else programs
    words = [MODEL_CLASSES.get(program, str(program)) for program in played]
    what = "programs" if len(words) == N_PROGRAMS else "instrument classes"
    shown = words if len(words) <= 2 else [f"{len(words)} {what}"]
    return ", ".join([*shown, *(["drums"] if plays_drums else [])]) or "nothing"


# --- entries ---------------------------------------------------------------------------------------------------------


def download_entry(model: LockedModel) -> ModelEntry:
    """A model at one of its places, with the files that are made of it once they are there."""
    folder = cache.model_folder(model)
    made = [file for file in cache.made_files(model) if cache.file_state(folder, file) is not FileState.MISSING]
    files = tuple(_locked_file(folder, file) for file in (*model.files, *made))
    return ModelEntry(
        model=model.name,
        kind="download",
        source=model.source,
        state=_download_state(model, folder),
        description=model.description,
        license=model.license,
        instruments=instruments(None, True),
        revision=model.revision,
        folder=str(folder),
        files=files if not cache.is_ready(model, folder) else tuple(file for file in files if file.state != "missing"),
    )


def _download_state(model: LockedModel, folder: Path) -> str:
    loaded = [cache.file_state(folder, file) for file in cache.loaded_files(model)]
    if not {FileState.MISSING, FileState.PARTIAL} & set(loaded):
        return "downloaded"
    begun = {*loaded, *(cache.file_state(folder, file) for file in model.files)} != {FileState.MISSING}
    return "partly downloaded" if begun else "available"


def _locked_file(folder: Path, file: LockedFile) -> FileEntry:
    size_bytes = file.size_bytes
    if size_bytes is None and isfile(folder / file.path):
        size_bytes = size_bytes_of(folder / file.path)
    return FileEntry(
        path=file.path,
        state=str(cache.file_state(folder, file)),
        size_bytes=size_bytes,
        about_bytes=file.about_bytes,
        sha256=file.sha256,
        recorded_sha256=None if file.sha256 else cache.expected_sha256(folder, file),
        url=file.resolved_url(endpoint()) or None,
        revision=file.revision,
        note=file.note,
    )


def bundled_entry(voice: BundledVoice) -> ModelEntry:
    """A voice of the package; its files are hashed."""
    folder = lock.bundled_folder(voice.name)
    files = tuple(
        FileEntry(
            path=file.path,
            state=(lock.check_bundled_file(folder, file) or "verified").partition(":")[0],
            size_bytes=file.size_bytes,
            sha256=file.sha256,
        )
        for file in voice.files
    )
    is_right = all(file.state == "verified" for file in files)
    try:
        described = read_voice_file(folder / VOICE_FILE)
        plays = instruments(described.programs, described.plays_drums)
    except WeightsError:
        plays = "unknown"
    return ModelEntry(
        model=voice.name,
        kind="bundled",
        source="package",
        state="bundled" if is_right else "damaged",
        description=voice.description,
        license=voice.license,
        instruments=plays,
        revision=None,
        folder=str(folder),
        files=files,
    )


def _folder_entry(folder: Path, voice: VoiceFile | None) -> ModelEntry:
    """A folder that somebody named; ``voice`` None: in the Diffusers layout. Its files are hashed."""
    if voice is not None:
        names = list(FOLDER_FILES)
    else:
        names = [
            *diffusers_weights(folder).values(),
            *(f"{part}/config.json" for part in DIFFUSERS_PARTS),
            ONNX_VOCODER,
        ]
    expected = {} if voice is None else voice.hashes
    present = [name for name in names if name in expected or isfile(folder / name)]
    files = tuple(_hashed_file(folder, name, expected.get(name)) for name in present)
    return ModelEntry(
        model=Path(os.path.realpath(folder)).name if voice is None else voice.name,
        kind="folder",
        source="folder",
        state="damaged" if any(file.state in ("missing", "wrong content") for file in files) else "folder",
        description="a folder in the Diffusers layout" if voice is None else voice.description,
        license=UNKNOWN_LICENCE if voice is None else voice.license,
        instruments=instruments(None, True) if voice is None else instruments(voice.programs, voice.plays_drums),
        revision=None,
        folder=str(folder),
        files=files,
    )


def _hashed_file(folder: Path, name: str, expected: str | None) -> FileEntry:
    try:
        found = lock.file_sha256(folder / name)
        size_bytes = (folder / name).stat().st_size
    except FileNotFoundError:
        return FileEntry(name, "missing", sha256=expected)
    except OSError as error:
        raise WeightsError(f"{folder / name}: cannot be read ({reason(error)})") from None
    state = "no hash to compare with" if expected is None else "verified" if found == expected else "wrong content"
    return FileEntry(name, state, size_bytes, sha256=found)


# --- details ---------------------------------------------------------------------------------------------------------


def _of_voice(model: str, entry: ModelEntry, voice: VoiceFile, commands: tuple[str, ...] = ()) -> Details:
    folder = Path(entry.folder)
    n_parameters = count_parameters(voice.model) or stored_parameters(folder / WEIGHTS_FILE)
    return Details(entry, described_card(model, folder, voice), n_parameters, commands)


def _of_published(model: str, entry: ModelEntry, config: ModelConfig | None, commands: tuple[str, ...] = ()) -> Details:
    has_vocoder = any(file.path == ONNX_VOCODER for file in entry.files)
    card = published_card(model, Path(entry.folder), entry.model, has_vocoder=has_vocoder, config=config)
    return Details(entry, card, None if config is None else count_parameters(config), commands)


def _diffusers_config(folder: Path) -> ModelConfig | None:
    """The sizes that the parts' config.json files name; None where they are not all there."""
    parts: dict[str, Any] = {}
    for part in DIFFUSERS_PARTS:
        try:
            parts[part] = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            return None
    try:
        notes, decoder = parts["notes_encoder"], parts["decoder"]
        sizes = {
            "d_model": decoder["d_model"],
            "n_heads": decoder["num_heads"],
            "d_kv": decoder["d_kv"],
            "d_ff": decoder["d_ff"],
            "n_note_layers": notes["num_layers"],
            "n_context_layers": parts["continuous_encoder"]["num_layers"] if "continuous_encoder" in parts else 0,
            "n_decoder_layers": decoder["num_layers"],
            "n_vocabulary_rows": notes["vocab_size"],
        }
        are_sizes = all(type(size) is int and size >= 0 for size in sizes.values())
        return ModelConfig(**sizes) if are_sizes else None
    except (KeyError, TypeError, ValueError):
        return None


def count_parameters(config: ModelConfig) -> int | None:
    """Numbers in all tensors of a network of the reference's parts, stored position tables included.

    None for a network with other parts, see :func:`stored_parameters`.
    """
    if config.note_layout or config.note_templates or config.is_templates or config.dialect != "magenta":
        return None
    d = config.d_model
    attention = 4 * d * config.n_heads * config.d_kv
    mlp = 3 * d * config.d_ff
    encoder_block = attention + mlp + 2 * d
    note_encoder = config.n_vocabulary_rows * d + config.n_note_layers * encoder_block + d
    decoder_block = 2 * attention + mlp + 3 * d
    decoder = 2 * N_MELS * d + d
    if config.is_autoregressive:  # no position tables, and no time to be told
        return note_encoder + decoder + config.n_decoder_layers * decoder_block
    context_encoder = (N_MELS + WINDOW_FRAMES) * d + config.n_context_layers * encoder_block + d
    film = 2 * (4 * d) * (2 * d)
    time = d * (4 * d) + (4 * d) ** 2
    decoder += WINDOW_FRAMES * d + time + config.n_decoder_layers * (decoder_block + film)
    return note_encoder + MAX_TOKENS * d + decoder + (context_encoder if config.has_context else 0)


def stored_parameters(path: Path) -> int | None:
    """Numbers in all tensors of a ``.safetensors`` file, by its header; None where it has none that makes sense."""
    try:
        with path.open("rb") as stream:
            n_bytes = int.from_bytes(stream.read(8), "little")
            if n_bytes > min(MAX_HEADER_BYTES, path.stat().st_size):
                return None
            header = json.loads(stream.read(n_bytes))
        return sum(int(math.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
