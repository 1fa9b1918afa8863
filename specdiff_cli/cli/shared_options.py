"""How options are declared, and those that several commands have alike, beside the grouped ones of ``render``."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import typer

from specdiff_cli.choices import DEVICES_IN_WORDS, DTYPES, SAMPLERS, SCHEDULES, VOCODERS, Subtype
from specdiff_cli.cli import completion as complete
from specdiff_cli.wording import either

Record = TypeVar("Record")
THE_VOICES = "the voice's"


def option(
    help: str,  # noqa: A002 - typer's name for it
    *names: str,
    metavar: str | None = None,
    default: bool | str = True,
    offer: complete.Offer | None = None,
    env: str | None = None,
    panel: str | None = None,
    **more: Any,
) -> Any:
    """An option: what it does, and its names where they are not the parameter's.

    Args:
        default: the default in words, where the value does not say it.
        offer: what the shell completes.
        env: the variable that sets its default, without ``SPECDIFF_``.
        panel: the group in which ``--help`` shows it.
    """
    return typer.Option(
        *names,
        help=help,
        metavar=metavar,
        show_default=default,
        autocompletion=offer,
        envvar=None if env is None else f"SPECDIFF_{env}",
        rich_help_panel=panel,
        **more,
    )


def argument(
    help: str,  # noqa: A002 - typer's name for it
    *,
    metavar: str | None = None,
    default: bool = False,
    offer: complete.Offer | None = None,
) -> Any:
    """What a command is about. ``default``: whether ``--help`` shows it."""
    return typer.Argument(help=help, metavar=metavar, show_default=default, autocompletion=offer)


def record_of(kind: Callable[..., Record], given: Mapping[str, Any], **more: Any) -> Record:
    """A record of options (a dataclass), filled from a command's parameters of the same names.

    Args:
        given: the parameters, as ``locals()`` has them when the command begins; None stands for the field's default.
        more: fields that are made of several parameters, or of one of another name.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    taken = {name: given[name] for name in names if given.get(name) is not None} | more
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()})


Device = Annotated[str, option(f"{either(DEVICES_IN_WORDS)}.", offer=complete.devices)]
Dtype = Annotated[str, option(f"{either(DTYPES)}.", offer=complete.dtypes)]
Threads = Annotated[int | None, option("CPU threads.", metavar="N", default="one per core that may be used")]
Sampler = Annotated[str | None, option(f"{either(SAMPLERS)}.", default=THE_VOICES, offer=complete.samplers)]
Schedule = Annotated[str | None, option(f"{either(SCHEDULES)}.", default=THE_VOICES, offer=complete.schedules)]
Guidance = Annotated[float | None, option("Classifier-free guidance; 1 is off.", metavar="WEIGHT", default=THE_VOICES)]
ReuseEvery = Annotated[
    int | None,
    option("Evaluate the whole network in one of N steps; 1 is off.", metavar="N", default=THE_VOICES),
]
Vocoder = Annotated[str | None, option(f"{either(VOCODERS)}.", default=THE_VOICES, offer=complete.vocoders)]
SampleFormat = Annotated[str, option(f"{either(Subtype)}.", offer=complete.subtypes)]
Quiet = Annotated[bool, option("Print errors only.", "--quiet", "-q")]
Debug = Annotated[bool, option("Show tracebacks.", "--debug")]
Ray = Annotated[str | None, option("By workers on the machines of a running Ray.", "--ray", metavar="HOST:PORT|auto")]
