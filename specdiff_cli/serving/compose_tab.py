"""The tab where music is composed, to be seen here and heard on the other tab."""

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import SpecdiffError
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.serving.markup import problem, progress
from specdiff_cli.serving.results import Composed
from specdiff_cli.serving.roll import piano_roll
from specdiff_cli.serving.studio import Studio
from specdiff_cli.serving.uploads import MIDI_SUFFIXES, bar_starts_s
from specdiff_cli.serving.wishes import MAX_COMPOSED_NOTES, MAX_PIECES, ComposeWishes

if TYPE_CHECKING:
    import gradio as gr

TASKS = {
    "something new": "new",
    "go on with a song": "continue",
    "a part of a song anew": "fill",
    "other harmonies for a song": "reharmonise",
    "an accompaniment for a tune": "accompany",
}


def compose_tab(studio: Studio, render_input: "gr.File", tabs: "gr.Tabs") -> None:
    """Fill the tab; a piece is heard by putting it where songs are dropped."""
    import gradio as gr

    composed = gr.State(())
    with gr.Row():
        task = gr.Dropdown(list(TASKS), value=next(iter(TASKS)), label="Compose")
        program = gr.Dropdown(list(GM_NAMES), value=GM_NAMES[0], label="Instrument")
    with gr.Row():
        n = gr.Slider(1, MAX_PIECES, value=2, step=1, label="Pieces")
        n_notes = gr.Slider(16, MAX_COMPOSED_NOTES, value=128, step=16, label="Notes")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Row(visible=False) as song_row:
        song = gr.File(label="Song", file_types=MIDI_SUFFIXES, height=110, elem_id="compose-song")
        section = gr.Textbox("", label="Part to compose anew", placeholder="bar:9-bar:13 or 12.5-20")
    go = gr.Button("Compose", variant="primary", elem_id="compose-go")
    status = gr.HTML(elem_id="compose-status")
    rolls = gr.HTML(elem_id="compose-rolls")
    with gr.Row(visible=False) as chosen_row:
        chosen = gr.Dropdown([], label="Piece", elem_id="compose-piece")
        hear = gr.Button("Hear it", elem_id="compose-hear")
        download = gr.DownloadButton("MIDI", elem_id="compose-midi")

    task.change(lambda name: gr.Row(visible=TASKS[name] != "new"), task, song_row, api_visibility="private")

    def run(name: str, what: str, *values: Any) -> Iterator[dict[Any, Any]]:
        for update in _compose(studio, TASKS[name], GM_NAMES.index(what), *values):
            if isinstance(update, str):
                yield {status: update}
                continue
            labels = [piece.label for piece in update]
            yield {
                status: "",
                composed: update,
                rolls: "".join(_picture(piece) for piece in update),
                chosen_row: gr.Row(visible=True),
                chosen: gr.Dropdown(labels, value=labels[0]),
                download: gr.DownloadButton(value=str(update[0].path)),
            }

    go.click(
        run,
        [task, program, n, n_notes, seed, section, song],
        [status, composed, rolls, chosen_row, chosen, download],
        concurrency_limit=None,
        api_visibility="private",
        show_progress="hidden",
    )

    def pick(label: str, pieces: tuple[Composed, ...]) -> str | None:
        return next((str(piece.path) for piece in pieces if piece.label == label), None)

    chosen.change(pick, [chosen, composed], download, api_visibility="private")
    hear.click(
        lambda label, pieces: (pick(label, pieces), gr.Tabs(selected="render")),
        [chosen, composed],
        [render_input, tabs],
        api_visibility="private",
    )


def _compose(
    studio: Studio,
    task: str,
    program: int,
    n: int | None,
    n_notes: int | None,
    seed: int | None,
    section: str,
    path: str | None,
) -> Iterator[str | tuple[Composed, ...]]:
    """Lines of progress, and at the end the pieces, or what went wrong."""
    try:
        upload = None if path is None or task == "new" else studio.open(path)
        wishes = ComposeWishes(int(n or 0), int(n_notes or 0), program, int(seed or 0), task, section.strip(), upload)
        for update in studio.compose(wishes):
            yield update if isinstance(update, tuple) else progress(update.text, update.share)
    except SpecdiffError as error:
        yield problem(str(error))


def _picture(piece: Composed) -> str:
    song = piece.song
    roll = piano_roll(song.notes, song.end_s, bar_starts_s(song))
    return f'<p class="facts">{escape(piece.label)}</p>{roll}'
