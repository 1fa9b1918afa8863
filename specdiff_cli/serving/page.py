"""The page itself: its tabs, and the interface for programs."""

from typing import TYPE_CHECKING

from specdiff_cli.errors import SpecdiffError
from specdiff_cli.serving.compose_tab import compose_tab
from specdiff_cli.serving.render_tab import render_tab
from specdiff_cli.serving.studio import Studio

if TYPE_CHECKING:
    import gradio as gr

INTRODUCTION = """# specdiff
Drop a MIDI file, see it, hear it. Everything happens on this computer."""


def build_page(studio: Studio) -> "gr.Blocks":
    """The page, ready to be launched; it belongs to one studio."""
    import gradio as gr

    page: gr.Blocks
    with gr.Blocks(title="specdiff", analytics_enabled=False, delete_cache=(300, 3600)) as page:
        gr.Markdown(INTRODUCTION, elem_id="title")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Render", id="render"):
                midi = render_tab(studio)
            with gr.Tab("Compose", id="compose"):
                compose_tab(studio, midi, tabs)
        _add_api(studio)
    page.queue(default_concurrency_limit=4, max_size=64)  # what computes has a line of its own: the studio's
    return page


def _add_api(studio: Studio) -> None:
    """``/render`` for programs: a MIDI file and options as ``specdiff render`` names them, and a WAV file back."""
    import gradio as gr

    with gr.Row(visible=False):
        midi = gr.File(label="midi")
        options = gr.JSON(label="options")
        audio = gr.File(label="audio")
        go = gr.Button()

    def render(path: str | None, wanted: object) -> str:
        try:
            return str(studio.render_api(path, {} if wanted is None else wanted))
        except SpecdiffError as error:
            raise gr.Error(studio.public_line(str(error)), print_exception=False) from None

    go.click(
        render,
        [midi, options],
        audio,
        concurrency_limit=None,
        api_name="render",
    )
