"""Composers on disk: the one inside the package, and folders of training runs."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specdiff_cli.composing.network import TokensConfig, TokensNetwork
from specdiff_cli.composing.score import Ints
from specdiff_cli.errors import WeightsError
from specdiff_cli.weights.load import read_tensors
from specdiff_cli.weights.lock import check_bundled_file, load_lock

WEIGHTS_NAME, ABOUT_NAME = "composer.safetensors", "composer.json"


@dataclass(frozen=True)
class Composer:
    """A network that is ready, and what it was trained on. ``repertoire`` (n, 5): conditions and how often."""

    name: str
    kind: str
    network: Any
    repertoire: Ints
    about: dict[str, Any]


def bundled_folder(name: str) -> Path:
    """Where a composer lies inside the package."""
    return Path(os.path.realpath(__file__)).parent / "weights" / name


def find_composer(name: str) -> Path:
    """The folder of a bundled composer, its files verified, or of a training run. Raises WeightsError."""
    composers = load_lock().composers
    if name in composers:
        folder = bundled_folder(name)
        for file in composers[name].files:
            problem = check_bundled_file(folder, file)
            if problem is not None:
                raise WeightsError(f"{folder / file.path}: {problem}: reinstall specdiff")
        return folder
    if os.path.isdir(name):
        return Path(name)
    known = ", ".join(sorted(composers))
    raise WeightsError(f"{name}: is neither a composer of this package ({known}) nor the folder of a training run")


def load_composer(name: str, threads: int | None = None) -> Composer:
    """Load a composer by name or folder. Raises WeightsError for what is missing, damaged or of other sizes.

    ``threads``: of the CPU, from now on; None leaves PyTorch's own number.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    folder = find_composer(name)
    about = _read_about(folder / ABOUT_NAME)
    tensors = read_tensors(folder / WEIGHTS_NAME)
    kind = about["composer"]["kind"]
    try:
        network = _empty_network(kind, about)
        network.load_state_dict({key: value.float() for key, value in tensors.items()})
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder / WEIGHTS_NAME}: does not fit {ABOUT_NAME} beside it ({detail})") from None
    repertoire = np.array(about.get("repertoire", []), dtype=np.int64).reshape(-1, 5)
    return Composer(folder.name, kind, network.requires_grad_(False).eval(), repertoire, about)


def _empty_network(kind: str, about: dict[str, Any]) -> Any:
    if kind == "tokens":
        return TokensNetwork(TokensConfig(**about["tokens"]))
    from specdiff_cli.composing.unet import UnetConfig, UnetNetwork

    return UnetNetwork(UnetConfig(**about["unet"]))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["composer"]["kind"] not in ("tokens", "unet"):
            raise ValueError("an unknown kind of composer")
    except FileNotFoundError:
        raise WeightsError(f"{path.parent}: holds no {path.name}; give the folder of a finished training run") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: is not what a training run writes ({error!s:.100})") from None
    return dict(about)
