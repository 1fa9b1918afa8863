"""The tab where a song is seen, changed, rendered and heard."""

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import SpecdiffError
from specdiff_cli.serving.markup import line, listed, problem, progress
from specdiff_cli.serving.orchestra import chosen, orchestra, shown
from specdiff_cli.serving.results import Rendered
from specdiff_cli.serving.roll import piano_roll
from specdiff_cli.serving.studio import Studio
from specdiff_cli.serving.uploads import MIDI_SUFFIXES, OpenSong
from specdiff_cli.serving.wishes import Wishes

if TYPE_CHECKING:
    import gradio as gr

DOWNLOADS = ("WAV", "FLAC", "OGG")
OWN = "voice's own"
AS_IT_IS = "as it is"
LOUDNESS = [AS_IT_IS, "-16 LUFS", "-23 LUFS", "-1 dBFS"]
RATES = ["16000", "44100", "48000"]


def render_tab(studio: Studio) -> "gr.File":
    """Fill the tab. Returns where a song is dropped: another tab may put one there."""
    import gradio as gr

    opened = gr.State(None, time_to_live=3600)
    before = gr.State(None)
    midi = gr.File(label="MIDI file", file_types=MIDI_SUFFIXES, elem_id="midi", height=140)
    overview = gr.HTML(elem_id="overview")
    with gr.Column(visible=False) as controls:
        table = orchestra()
        remarks = gr.HTML(elem_id="remarks")
        with gr.Accordion("Sound and section", open=False, elem_id="sound"):
            wishes = _wish_controls(studio)
        with gr.Row(elem_classes="actions"):
            go = gr.Button("Render", variant="primary", elem_id="render", scale=3)
            stop = gr.Button("Stop", elem_id="stop", interactive=False, scale=1, min_width=80)
        status = gr.HTML(elem_id="status")
        live = gr.HTML(elem_classes="live", elem_id="live")
    results, parts = _result_parts()
    parts |= {"status": status, "live": live, "results": results, "go": go, "stop": stop}
    voice = wishes["model"]

    def show_song(path: str | None, model: str) -> list[Any]:
        return _show_song(studio, path, model)

    midi.change(
        show_song,
        [midi, voice],
        [opened, overview, controls, results, status, live, table, remarks],
        api_visibility="private",
        show_progress="minimal",
    )

    def show_voice(song: OpenSong | None, model: str) -> list[Any]:
        return _show_voice(studio, song, model)

    voice.input(
        show_voice,
        [opened, voice],
        [wishes["preset"], wishes["sample_rate_hz"], wishes["stereo"], table, remarks],
        api_visibility="private",
        show_progress="hidden",
    )

    def run(song: OpenSong | None, last: Rendered | None, choices: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        for update in _run(studio, song, last, choices, dict(zip(wishes, values, strict=True))):
            yield {parts[name]: value for name, value in update.items()}

    event = go.click(
        run,
        [opened, before, table, *wishes.values()],
        [before, *parts.values()],
        concurrency_limit=None,
        api_visibility="private",
        show_progress="hidden",
    )
    parts["before"] = before
    _offer_stop(parts, event)

    _offer_stems(studio, parts, opened, table, wishes)
    return midi


def _offer_stop(parts: dict[str, Any], rendering: Any) -> None:
    """Let the button for it end a render."""
    import gradio as gr

    parts["stop"].click(
        lambda: [line("Stopped."), "", gr.Button(interactive=True), gr.Button(interactive=False)],
        None,
        [parts["status"], parts["live"], parts["go"], parts["stop"]],
        cancels=[rendering],
        queue=False,
        api_visibility="private",
    )


def _offer_stems(studio: Studio, parts: dict[str, Any], opened: Any, table: Any, wishes: dict[str, Any]) -> None:
    """Let the button for stems render them."""

    def make_stems(song: OpenSong | None, choices: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        for update in _make_stems(studio, song, choices, dict(zip(wishes, values, strict=True))):
            yield {parts[name]: value for name, value in update.items()}

    parts["make_stems"].click(
        make_stems,
        [opened, table, *wishes.values()],
        [parts["status"], parts["make_stems"], parts["stems"]],
        concurrency_limit=None,
        api_visibility="private",
        show_progress="hidden",
    )


def _result_parts() -> "tuple[gr.Column, dict[str, Any]]":
    """What is seen and heard after a render, hidden until then."""
    import gradio as gr

    with gr.Column(visible=False) as results:
        with gr.Row():
            now = gr.Audio(label="This render", type="filepath", interactive=False, buttons=[], elem_id="now")
            previous = gr.Audio(
                label="The one before", type="filepath", interactive=False, buttons=[], visible=False, elem_id="before"
            )
        told = gr.HTML(elem_id="told")
        with gr.Row(elem_id="downloads"):
            downloads = [gr.DownloadButton(name, size="sm", elem_id=name.lower(), min_width=80) for name in DOWNLOADS]
            make_stems = gr.Button("Stems", size="sm", elem_id="stems", min_width=80)
            stems = gr.DownloadButton("Stems (zip)", size="sm", visible=False, elem_id="stems-zip", min_width=80)
            as_midi = gr.DownloadButton("MIDI as rendered", size="sm", elem_id="midi-as-rendered", min_width=80)
        picture = gr.Image(
            label="Piano roll, spectrogram, waveform",
            show_label=False,
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            elem_id="picture",
        )
    parts = {"picture": picture, "now": now, "previous": previous, "told": told, "midi": as_midi}
    parts |= {"make_stems": make_stems, "stems": stems, **dict(zip(DOWNLOADS, downloads, strict=True))}
    return results, parts


def _wish_controls(studio: Studio) -> dict[str, Any]:
    """Field of :class:`Wishes` -> its control."""
    import gradio as gr

    names = studio.voices.names
    preset, rate, stereo = _voice_controls(studio, names[0])
    with gr.Row():
        controls: dict[str, Any] = {"model": gr.Dropdown(names, value=names[0], label="Voice", elem_id="voice")}
        controls["preset"] = gr.Dropdown(label="Preset", elem_id="preset", **preset)
        controls["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Row():
        controls["sample_rate_hz"] = gr.Dropdown(label="Sample rate, Hz", elem_id="rate", **rate)
        controls["normalize"] = gr.Dropdown(LOUDNESS, value=AS_IT_IS, label="Loudness")
        controls["stereo"] = gr.Checkbox(label="Stereo", elem_id="stereo", **stereo)
    with gr.Row():
        controls["transpose"] = gr.Slider(-12, 12, value=0, step=1, label="Transpose, semitones", elem_id="transpose")
        controls["tempo_scale"] = gr.Slider(0.5, 2.0, value=1.0, step=0.05, label="Tempo, ×")
    with gr.Row():
        controls["start"] = gr.Textbox("", label="From", placeholder="0:30, 12.5 or bar:17", elem_id="from")
        controls["end"] = gr.Textbox("", label="To", placeholder="1:30, 45 or bar:33", elem_id="to")
    return controls


def _voice_controls(studio: Studio, model: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What preset, sample rate and stereo offer with a voice. One without denoising steps has no presets."""
    facts = studio.voices.facts(model)
    own_rate = f"{OWN} ({facts.sample_rate_hz})"
    return (
        {"choices": [OWN, *facts.presets], "value": OWN, "visible": bool(facts.presets)},
        {"choices": [own_rate, *RATES], "value": own_rate},
        {"value": facts.is_stereo},
    )


def _wishes(song: OpenSong | None, choices: Any, values: dict[str, Any]) -> Wishes:
    """What the controls say, as a record. Raises UsageError."""
    programs, mute = chosen(song, choices) if song else ((), ())
    rate, loudness = str(values["sample_rate_hz"]), values["normalize"]
    return Wishes(
        model=values["model"],
        preset=None if values["preset"] in (None, OWN) else values["preset"],
        seed=int(values["seed"] or 0),
        sample_rate_hz=None if rate.startswith(OWN) else int(rate),
        stereo=bool(values["stereo"]),
        normalize=None if loudness == AS_IT_IS else loudness.replace(" ", ""),
        transpose=int(values["transpose"] or 0),  # None: its number was deleted
        tempo_scale=float(values["tempo_scale"] or 0),
        start=values["start"].strip() or None,
        end=values["end"].strip() or None,
        programs=programs,
        mute=mute,
    )


def _show_song(studio: Studio, path: str | None, model: str) -> list[Any]:
    """What changes when a file is dropped, or taken away."""
    import gradio as gr

    nothing = [gr.Column(visible=False), gr.Column(visible=False), "", "", gr.HTML(markup=""), ""]
    if path is None:
        return [None, "", *nothing]
    try:
        song = studio.open(path)
        table = shown(song, studio.voices.facts(model))
        remarks = studio.remarks(song, model)
    except SpecdiffError as error:
        return [None, problem(str(error)), *nothing]
    overview = (
        f'<p class="facts">{escape(song.facts)}</p>{piano_roll(song.song.notes, song.song.end_s, song.bar_starts_s)}'
    )
    shown_now = [gr.Column(visible=True), gr.Column(visible=False), "", "", gr.HTML(markup=table)]
    return [song, overview, *shown_now, listed(remarks)]


def _show_voice(studio: Studio, song: OpenSong | None, model: str) -> list[Any]:
    """What changes when another voice is chosen; the choices of instruments stay."""
    import gradio as gr

    try:
        preset, rate, stereo = _voice_controls(studio, model)
        updates = [gr.Dropdown(**preset), gr.Dropdown(**rate), gr.Checkbox(**stereo)]
        if song is None:
            return [*updates, gr.skip(), gr.skip()]
        table = gr.HTML(markup=shown(song, studio.voices.facts(model)))
        return [*updates, table, listed(studio.remarks(song, model))]
    except SpecdiffError as error:
        return [gr.skip(), gr.skip(), gr.skip(), gr.skip(), problem(studio.public_line(str(error)))]


def _run(
    studio: Studio, song: OpenSong | None, last: Rendered | None, choices: Any, values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What changes on the tab, part -> value, while a song is rendered and heard."""
    import gradio as gr

    idle = {"go": gr.Button(interactive=True), "stop": gr.Button(interactive=False)}
    if song is None:
        yield {"status": problem("Drop a MIDI file first.")}
        return
    yield {"live": "", "go": gr.Button(interactive=False), "stop": gr.Button(interactive=True)}
    try:
        for update in studio.render(song, _wishes(song, choices, values)):
            if isinstance(update, Rendered):
                yield {**_finished(update, last), **idle}
            elif update.live_url is not None:
                yield {"status": progress(update.text, update.share), "live": _player(update.live_url)}
            else:
                yield {"status": progress(update.text, update.share)}
    except SpecdiffError as error:
        yield {"status": problem(str(error)), "live": "", **idle}


def _make_stems(
    studio: Studio, song: OpenSong | None, choices: Any, values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What changes on the tab, part -> value, while the instruments are rendered one by one."""
    import gradio as gr

    if song is None:
        yield {"status": problem("Drop a MIDI file first.")}
        return
    yield {"make_stems": gr.Button(interactive=False)}
    try:
        for update in studio.stems(song, _wishes(song, choices, values)):
            if isinstance(update, Path):
                yield {"status": "", "stems": gr.DownloadButton(value=str(update), visible=True)}
            else:
                yield {"status": progress(f"Stems: {update.text}", update.share)}
    except SpecdiffError as error:
        yield {"status": problem(str(error))}
    yield {"make_stems": gr.Button(interactive=True)}


def _finished(done: Rendered, last: Rendered | None) -> dict[str, Any]:
    import gradio as gr

    previous = gr.Audio(visible=False)
    if last is not None and os.path.exists(last.path):
        previous = gr.Audio(value=str(last.path), label=f"The one before: {last.label}", visible=True)
    files = {name: gr.DownloadButton(value=str(path)) for name, path in zip(DOWNLOADS, done.files, strict=True)}
    return {
        "status": line(done.text),  # the live sound plays on
        "results": gr.Column(visible=True),
        "picture": str(done.picture) if done.picture else None,
        "now": gr.Audio(value=str(done.path), label=f"This render: {done.label}"),
        "previous": previous,
        "before": done,
        "told": listed(done.remarks),
        "stems": gr.DownloadButton(visible=False),
        "midi": gr.DownloadButton(value=str(done.midi)),
        **files,
    }


def _player(url: str) -> str:
    return f'<audio controls autoplay src="{escape(url)}" aria-label="Sound while it is rendered"></audio>'
