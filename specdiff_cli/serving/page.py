"""The page itself: what stands where, and which of the studio's functions each part calls."""

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import MidiError, SpecdiffError
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.serving.compose_tab import compose_tab
from specdiff_cli.serving.markup import line, problem, progress
from specdiff_cli.serving.roll import colours_of, piano_roll
from specdiff_cli.serving.studio import MIDI_SUFFIXES, ONE_AT_A_TIME, OpenSong, Rendered, Studio, Wishes

if TYPE_CHECKING:
    import gradio as gr

MAX_ROWS = 32  # instruments that can be changed one by one; a song of more plays the others as written
AS_WRITTEN, MUTE = "as written", "mute"
DOWNLOADS = ("WAV", "FLAC", "OGG")
LOUDNESS = ["as it is", "-16 LUFS", "-23 LUFS", "-1 dBFS"]
RATES = ["voice's own", "16000", "44100", "48000"]

STYLE = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
.roll {display: block; width: 100%; height: min(44vw, 300px); color: var(--body-text-color);
       background: var(--background-fill-secondary); border-radius: 6px}
.facts {opacity: .8; margin: .3em 0 .6em}
.facts, .problem, #midi td {overflow-wrap: anywhere; white-space: normal}
#midi table {table-layout: fixed}
.swatch {display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em}
.progress {height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; margin: .5em 0}
.progress > div {height: 100%; background: var(--color-accent)}
.live audio {width: 100%}
.problem {border-left: 4px solid #e5594f; padding: .5em .8em; background: var(--background-fill-secondary)}
footer {display: none !important}
"""
INTRODUCTION = """# specdiff
Drop a MIDI file, see it, hear it. Everything happens on this computer."""


def build_page(studio: Studio) -> "gr.Blocks":
    """The page, ready to be launched; it belongs to one studio."""
    import gradio as gr

    page: gr.Blocks
    with gr.Blocks(title="specdiff", analytics_enabled=False, delete_cache=(300, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Render", id="render"):
                midi = _render_tab(studio)
            with gr.Tab("Compose", id="compose"):
                compose_tab(studio, midi, tabs)
        _add_api(studio)
    page.queue(default_concurrency_limit=4, max_size=64)
    return page


def theme() -> "gr.themes.Base":
    """Gradio's, with the system's own fonts: nothing is fetched from elsewhere."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _add_api(studio: Studio) -> None:
    """``/render`` for programs: a MIDI file and options as ``specdiff render`` names them, and a WAV file back."""
    import gradio as gr

    with gr.Row(visible=False):
        midi = gr.File(label="midi")
        options = gr.JSON(label="options")
        audio = gr.File(label="audio")
        go = gr.Button()

    def render(path: str, wanted: dict[str, Any] | None) -> str:
        try:
            return str(studio.render_api(path, wanted or {}))
        except SpecdiffError as error:
            raise gr.Error(studio.public_line(str(error)), print_exception=False) from None

    go.click(
        render,
        [midi, options],
        audio,
        concurrency_id=ONE_AT_A_TIME,
        concurrency_limit=studio.n_at_once,
        api_name="render",
    )


def _render_tab(studio: Studio) -> "gr.File":
    """Returns where a song is dropped: another tab may put one there."""
    import gradio as gr

    opened = gr.State(None, time_to_live=3600)
    before = gr.State(None)
    midi = gr.File(label="MIDI file", file_types=MIDI_SUFFIXES, elem_id="midi", height=110)
    overview = gr.HTML(elem_id="overview")
    with gr.Column(visible=False) as controls:
        with gr.Row():
            go = gr.Button("Render", variant="primary", elem_id="render", scale=3)
            stop = gr.Button("Stop", elem_id="stop", interactive=False, scale=1, min_width=80)
        status = gr.HTML(elem_id="status")
        live = gr.HTML(elem_classes="live", elem_id="live")
        with gr.Accordion("Sound and section", open=False, elem_id="sound"):
            wishes = _wish_controls(studio)
        with gr.Accordion("Instruments", open=False, elem_id="instruments"), gr.Row(elem_classes="instruments"):
            rows = _instrument_rows()
    with gr.Column(visible=False) as results:
        picture = gr.Image(label="Piano roll, spectrogram, waveform", type="filepath", interactive=False, buttons=[])
        with gr.Row():
            now = gr.Audio(label="This render", type="filepath", interactive=False, buttons=[], elem_id="now")
            previous = gr.Audio(
                label="The one before", type="filepath", interactive=False, buttons=[], visible=False, elem_id="before"
            )
        with gr.Row():
            downloads = [gr.DownloadButton(name, size="sm", elem_id=name.lower()) for name in DOWNLOADS]
            stems = gr.Button("Stems", size="sm", elem_id="stems")
            stems_file = gr.DownloadButton("Stems (zip)", size="sm", visible=False)
            as_midi = gr.DownloadButton("MIDI as rendered", size="sm")

    def show_song(path: str | None) -> list[Any]:
        return _show_song(studio, path, len(rows))

    outputs = [opened, overview, controls, results, status, live, *rows]
    midi.change(show_song, midi, outputs, api_visibility="private", show_progress="minimal")

    parts = {
        "status": status,
        "live": live,
        "results": results,
        "picture": picture,
        "now": now,
        "previous": previous,
        "before": before,
        "stems": stems_file,
        "midi": as_midi,
        "go": go,
        "stop": stop,
        **dict(zip(DOWNLOADS, downloads, strict=True)),
    }

    def run(song: OpenSong | None, last: Rendered | None, *values: Any) -> Iterator[dict[Any, Any]]:
        wanted = _wishes(song, values[: len(rows)], values[len(rows) :])
        for update in _run(studio, song, last, wanted):
            yield {parts[name]: value for name, value in update.items()}

    event = go.click(
        run,
        [opened, before, *rows, *wishes],
        list(parts.values()),
        concurrency_id=ONE_AT_A_TIME,
        concurrency_limit=studio.n_at_once,
        api_visibility="private",
        show_progress_on=status,
    )
    stop.click(
        lambda: [line("Stopped."), "", gr.Button(interactive=True), gr.Button(interactive=False)],
        None,
        [status, live, go, stop],
        cancels=[event],
        queue=False,
        api_visibility="private",
    )

    def make_stems(song: OpenSong | None, *values: Any) -> list[Any]:
        wanted = _wishes(song, values[: len(rows)], values[len(rows) :])
        try:
            if song is None:
                raise MidiError("drop a MIDI file first")
            path = studio.stems(song, wanted)
        except SpecdiffError as error:
            return [problem(str(error)), gr.skip()]
        return ["", gr.DownloadButton(value=str(path), visible=True)]

    stems.click(
        make_stems,
        [opened, *rows, *wishes],
        [status, stems_file],
        concurrency_id=ONE_AT_A_TIME,
        api_visibility="private",
    )
    return midi


def _instrument_rows() -> "list[gr.Dropdown]":
    """One choice for each instrument, as many as there is room for; a song shows those it needs."""
    import gradio as gr

    return [gr.Dropdown([AS_WRITTEN], value=AS_WRITTEN, visible=False, min_width=240) for _ in range(MAX_ROWS)]


def _wish_controls(studio: Studio) -> list[Any]:
    """In the order of :func:`_wishes`."""
    import gradio as gr

    with gr.Row():
        model = gr.Dropdown(studio.models, value=studio.models[0], label="Voice")
        preset = gr.Dropdown(["voice's own", "draft", "balanced", "best"], value="voice's own", label="Preset")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Row():
        rate = gr.Dropdown(RATES, value=RATES[0], label="Sample rate, Hz")
        stereo = gr.Checkbox(True, label="Stereo")
        loudness = gr.Dropdown(LOUDNESS, value=LOUDNESS[0], label="Loudness")
    with gr.Row():
        transpose = gr.Slider(-12, 12, value=0, step=1, label="Transpose, semitones")
        tempo = gr.Slider(0.5, 2.0, value=1.0, step=0.05, label="Tempo, ×")
    with gr.Row():
        start = gr.Textbox("", label="From", placeholder="0:30, 12.5 or bar:17")
        end = gr.Textbox("", label="To", placeholder="1:30, 45 or bar:33")
    return [model, preset, seed, rate, stereo, loudness, transpose, tempo, start, end]


def _wishes(song: OpenSong | None, rows: tuple[Any, ...], values: tuple[Any, ...]) -> Wishes:
    """What the controls say, as a record."""
    model, preset, seed, rate, stereo, loudness, transpose, tempo, start, end = values
    programs, mute = [], []
    for instrument, choice in zip(song.instruments if song else (), rows, strict=False):
        if choice == MUTE:
            mute.append(instrument.selector)
        elif choice not in (None, AS_WRITTEN):
            programs.append(f"{instrument.selector}:{GM_NAMES.index(choice)}")
    return Wishes(
        model=model,
        preset=None if preset == "voice's own" else preset,
        seed=int(seed or 0),
        sample_rate_hz=None if rate == RATES[0] else int(rate),
        stereo=bool(stereo),
        normalize=None if loudness == LOUDNESS[0] else loudness.replace(" ", ""),
        transpose=int(transpose),
        tempo_scale=float(tempo),
        start=start.strip() or None,
        end=end.strip() or None,
        programs=tuple(programs),
        mute=tuple(mute),
    )


def _show_song(studio: Studio, path: str | None, n_rows: int) -> list[Any]:
    """What changes when a file is dropped, or taken away."""
    import gradio as gr

    hidden = [gr.Dropdown(visible=False) for _ in range(n_rows)]
    nothing = [None, "", gr.Column(visible=False), gr.Column(visible=False), "", "", *hidden]
    if path is None:
        return nothing
    try:
        song = studio.open(path)
    except SpecdiffError as error:
        return [None, problem(str(error)), *nothing[2:]]
    colours = colours_of(song.song.notes)
    rows = []
    for instrument in song.instruments[:n_rows]:
        choices = [AS_WRITTEN, MUTE] if instrument.is_drum else [AS_WRITTEN, MUTE, *GM_NAMES]
        rows.append(gr.Dropdown(choices, value=AS_WRITTEN, visible=True, label=instrument.label))
    legend = " ".join(
        f'<span><span class="swatch" style="background:{colours[item.is_drum, item.program]}"></span>'
        f"{escape(item.name)}</span>"
        for item in song.instruments[:n_rows]
    )
    roll = piano_roll(song.song.notes, song.song.end_s, song.bar_starts_s)
    remarks = "".join(f'<p class="facts">{escape(remark)}</p>' for remark in song.remarks)
    overview = f'<p class="facts">{escape(song.facts)}</p>{roll}<p class="facts">{legend}</p>{remarks}'
    return [
        song,
        overview,
        gr.Column(visible=True),
        gr.Column(visible=False),
        "",
        "",
        *rows,
        *hidden[len(rows) :],
    ]


def _run(studio: Studio, song: OpenSong | None, last: Rendered | None, wanted: Wishes) -> Iterator[dict[str, Any]]:
    """What changes on the render tab, part -> value, while a song is rendered and heard."""
    import gradio as gr

    idle = {"go": gr.Button(interactive=True), "stop": gr.Button(interactive=False)}
    if song is None:
        yield {"status": problem("Drop a MIDI file first.")}
        return
    yield {"live": "", "go": gr.Button(interactive=False), "stop": gr.Button(interactive=True)}
    try:
        for update in studio.render(song, wanted):
            if isinstance(update, Rendered):
                yield {**_finished(update, last), **idle}
            elif update.live_url is not None:
                yield {"status": progress(update.text, update.share), "live": _player(update.live_url)}
            else:
                yield {"status": progress(update.text, update.share)}
    except SpecdiffError as error:
        yield {"status": problem(str(error)), "live": "", **idle}


def _finished(done: Rendered, last: Rendered | None) -> dict[str, Any]:
    import gradio as gr

    previous = gr.Audio(visible=False)
    if last is not None and last.path.exists():
        previous = gr.Audio(value=str(last.path), label=f"The one before: {last.label}", visible=True)
    files = {name: gr.DownloadButton(value=str(path)) for name, path in zip(DOWNLOADS, done.files, strict=True)}
    return {
        "status": line(done.text),  # the live sound plays on
        "results": gr.Column(visible=True),
        "picture": str(done.picture) if done.picture else None,
        "now": gr.Audio(value=str(done.path), label=f"This render: {done.label}"),
        "previous": previous,
        "before": done,
        "stems": gr.DownloadButton(visible=False),
        "midi": gr.DownloadButton(value=str(done.midi)),
        **files,
    }


def _player(url: str) -> str:
    return f'<audio controls autoplay src="{escape(url)}" aria-label="Sound while it is rendered"></audio>'
