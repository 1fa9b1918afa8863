"""``specdiff train``: make a corpus, and train a voice on it."""

import typer

from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.train_atlas import train_atlas, train_notes
from specdiff_cli.cli.train_composer import train_composer
from specdiff_cli.cli.train_data import train_data
from specdiff_cli.cli.train_export import train_export
from specdiff_cli.cli.train_model import train_model
from specdiff_cli.cli.train_vocoder import train_vocoder

train_app = typer.Typer(
    name="train",
    no_args_is_help=True,
    help="Make a corpus and train a voice on it (docs/training.md). Needs the 'train' extra.",
)
train_app.command("atlas")(guarded(train_atlas))
train_app.command("notes")(guarded(train_notes))
train_app.command("data")(guarded(train_data))
train_app.command("model")(guarded(train_model))
train_app.command("vocoder")(guarded(train_vocoder))
train_app.command("composer")(guarded(train_composer))
train_app.command("export")(guarded(train_export))
