"""``specdiff --version``: versions at once; with ``--verbose`` also the device, which takes loading PyTorch."""

import platform

import typer

from specdiff_cli import __version__


def show_version(*, verbose: bool) -> None:
    """Print the versions, one per line; the first line never changes its form."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "not installed"
    typer.echo(f"specdiff {__version__}")
    typer.echo(f"torch {torch_version}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    if verbose:
        typer.echo(_describe_device())


def _describe_device() -> str:
    """The device that ``--device auto`` takes, and the precision that ``--dtype auto`` takes for the bundled voice."""
    import torch

    from specdiff_cli.engine.devices import resolve_device, resolve_dtype

    device = resolve_device("auto")
    dtype = str(resolve_dtype("auto", device, prefers_bfloat16=True)).removeprefix("torch.")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"device {device}{name}, {dtype} for voices made for bfloat16, {torch.get_num_threads()} CPU threads"
