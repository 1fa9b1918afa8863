"""Defaults of a user's own for ``render``: the file ``config.toml``. Command line and environment come before it."""

import os
from pathlib import Path
from typing import Any

from specdiff_cli.errors import UsageError

CONFIG_VARIABLE = "SPECDIFF_CONFIG"
CONFIG_NAME = "config.toml"

#: Key in the file, which is the option's name -> what its value must be.
KEYS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "preset": (str,),
    "steps": (int,),
    "sampler": (str,),
    "schedule": (str,),
    "guidance": (int, float),
    "guidance-interval": (str,),
    "reuse-every": (int,),
    "overlap-frames": (int,),
    "seed": (int,),
    "device": (str,),
    "dtype": (str,),
    "threads": (int,),
    "batch": (int,),
    "vocoder": (str,),
    "tail": (int, float),
    "format": (str,),
    "subtype": (str,),
    "quality": (int, float),
    "bit-rate": (int, float),
    "sample-rate": (int,),
    "normalize": (str,),
    "max-duration": (int, float),
    "reader": (str,),
    "length": (str,),
    "output-template": (str,),
}
#: Keys whose parameter of the ``render`` function has another name.
_PARAMETERS = {"format": "file_format"}
_IN_WORDS = {str: "a text", int: "a whole number", float: "a number"}


def config_path() -> Path:
    """``SPECDIFF_CONFIG``, else ``config.toml`` in the platform's folder for settings. It need not exist."""
    override = os.environ.get(CONFIG_VARIABLE, "")
    if override:
        return Path(os.path.expanduser(override))
    import platformdirs

    return Path(platformdirs.user_config_dir("specdiff", appauthor=False)) / CONFIG_NAME


def read_defaults() -> dict[str, Any]:
    """Parameter of ``render`` -> its default in the user's file; empty where there is no such file.

    Raises:
        UsageError: SPECDIFF_CONFIG names no file; the file cannot be read, or holds an unknown key or a wrong type.
    """
    import difflib
    import tomllib

    path = config_path()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get(CONFIG_VARIABLE):
            raise UsageError(f"{CONFIG_VARIABLE}: {path}: no such file; correct or unset it") from None
        return {}
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML
        if isinstance(error, OSError) and not os.environ.get(CONFIG_VARIABLE) and not os.path.exists(path):
            return {}  # a home that cannot be reached holds no settings
        detail = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UsageError(f"{path}: cannot be read ({detail})") from None
    for key, value in values.items():
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KEYS)}"
            raise UsageError(f"{path}: unknown key {key}; {hint}")
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):  # a bool is an int to Python, not to people
            raise UsageError(f"{path}: {key} is {value!r}, expected {_IN_WORDS[KEYS[key][-1]]}")
    return {_PARAMETERS.get(key, key.replace("-", "_")): value for key, value in values.items()}
