"""Options that several commands have alike, beside the grouped ones of ``render`` (options.py)."""

from typing import Annotated

import typer

from specdiff_cli.choices import DEVICES_IN_WORDS, DTYPES, SAMPLERS, SCHEDULES, VOCODERS, Subtype
from specdiff_cli.cli import completion as complete
from specdiff_cli.wording import either

THE_VOICES = "the voice's"

Device = Annotated[str, typer.Option(help=f"{either(DEVICES_IN_WORDS)}.", autocompletion=complete.devices)]
Dtype = Annotated[str, typer.Option(help=f"{either(DTYPES)}.", autocompletion=complete.dtypes)]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="CPU threads.", show_default="one per core that may be used")
]
Sampler = Annotated[
    str | None,
    typer.Option(help=f"{either(SAMPLERS)}.", show_default=THE_VOICES, autocompletion=complete.samplers),
]
Schedule = Annotated[
    str | None,
    typer.Option(help=f"{either(SCHEDULES)}.", show_default=THE_VOICES, autocompletion=complete.schedules),
]
Guidance = Annotated[
    float | None,
    typer.Option(metavar="WEIGHT", help="Classifier-free guidance; 1 is off.", show_default=THE_VOICES),
]
ReuseEvery = Annotated[
    int | None,
    typer.Option(metavar="N", help="Evaluate the whole network in one of N steps; 1 is off.", show_default=THE_VOICES),
]
Vocoder = Annotated[
    str | None,
    typer.Option(help=f"{either(VOCODERS)}.", show_default=THE_VOICES, autocompletion=complete.vocoders),
]
SampleFormat = Annotated[str, typer.Option(help=f"{either(Subtype)}.", autocompletion=complete.subtypes)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
