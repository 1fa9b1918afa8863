"""Defaults of a user's own for renders: the file ``config.toml``. Command line and environment come before it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from specdiff_cli.errors import UsageError
from specdiff_cli.files import hidden_by, shown_path

CONFIG_VARIABLE = "SPECDIFF_CONFIG"
CONFIG_NAME = "config.toml"
#: The options that may stand there.
KEYS = (
    "model",
    "preset",
    "steps",
    "sampler",
    "schedule",
    "guidance",
    "guidance-interval",
    "reuse-every",
    "overlap-frames",
    "seed",
    "device",
    "dtype",
    "threads",
    "batch",
    "vocoder",
    "tail",
    "format",
    "subtype",
    "quality",
    "bit-rate",
    "sample-rate",
    "normalize",
    "max-duration",
    "reader",
    "length",
    "output-template",
)


def config_path() -> Path:
    """``SPECDIFF_CONFIG``, else ``config.toml`` in the platform's folder for settings. It need not exist."""
    override = os.environ.get(CONFIG_VARIABLE, "")
    if override:
        return Path(os.path.expanduser(override))
    import platformdirs

    return Path(platformdirs.user_config_dir("specdiff", appauthor=False)) / CONFIG_NAME


def read_defaults() -> dict[str, Any]:
    """Option of a request, with ``_``, -> its default in the user's file; empty where there is no such file.

    Raises:
        UsageError: SPECDIFF_CONFIG names no file; the file cannot be read, or holds an unknown key or a wrong type.
    """
    path = config_path()
    if not os.path.exists(path):
        if os.environ.get(CONFIG_VARIABLE):
            problem = hidden_by(path)
            why = "no such file" if problem is None else f"cannot be read ({problem})"
            raise UsageError(f"{CONFIG_VARIABLE}: {shown_path(path)}: {why}; correct or unset it")
        return {}
    with suppress(OSError):  # told below
        if not path.read_bytes().strip():
            return {}
    from specdiff_cli.rendering.request import read_options  # knows MIDI: `render --help` is quicker without

    values = read_options(path, KEYS)
    return {key.replace("-", "_"): value for key, value in values.items()}
