"""``python -m specdiff_cli`` and the ``specdiff`` script."""

import sys


def main() -> None:
    """Run the command line; leaves through SystemExit with a documented exit code."""
    try:
        from specdiff_cli.engine.starting import end_quickly, importing
        from specdiff_cli.engine.waiting import wait_briefly

        wait_briefly()  # before anything loads torch
        end_quickly()
        with importing():
            from specdiff_cli.cli.app import run

        run()
    except KeyboardInterrupt:  # while the program itself was still being loaded
        sys.exit(130)


if __name__ == "__main__":
    main()
