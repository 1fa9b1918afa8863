"""``python -m specdiff_cli`` and the ``specdiff`` script."""


def main() -> None:
    """Run the command line; leaves through SystemExit with a documented exit code."""
    from specdiff_cli.cli.app import run

    run()


if __name__ == "__main__":
    main()
