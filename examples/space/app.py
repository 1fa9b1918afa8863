"""The page as a Hugging Face Space: copy this folder into one."""

import os
import tempfile
from pathlib import Path

from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.server import Address, be_quiet, serving
from specdiff_cli.serving.studio import Studio

PUBLIC_LIMITS = Limits(max_duration_s=180.0)  # a free Space has two cores, and a queue of visitors


def main() -> None:
    """Serve until the Space is stopped. It is public by nature, so no password is asked for."""
    be_quiet()
    with tempfile.TemporaryDirectory(prefix="specdiff-") as folder:
        studio = Studio(["tiny"], PUBLIC_LIMITS, Path(folder))
        with serving(studio, Address("0.0.0.0", int(os.environ.get("PORT", "7860")))):  # noqa: S104 - a Space is reached through its proxy
            wait_for_ever()


def wait_for_ever() -> None:
    """Until a signal ends the process."""
    import threading

    threading.Event().wait()


if __name__ == "__main__":
    main()
