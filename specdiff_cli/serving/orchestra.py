"""The table of a song's instruments, with a choice for each: keep it, give it another sound, mute it."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import UsageError
from specdiff_cli.midi.adapt import sounding_name
from specdiff_cli.midi.programs import GM_NAMES, N_PROGRAMS
from specdiff_cli.serving.roll import colours_of
from specdiff_cli.serving.uploads import OpenSong, PlayedInstrument
from specdiff_cli.serving.voices import VoiceFacts

if TYPE_CHECKING:
    import gradio as gr

KEEP, MUTE = "keep", "mute"
MAX_ROWS = 64  # a song of more parts plays the others as written
SILENT = "silent"
#: General MIDI's groups of eight programs each.
FAMILIES = (
    "Piano", "Chromatic percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass", "Reed", "Pipe",
    "Synth lead", "Synth pad", "Synth effects", "Ethnic", "Percussive", "Sound effects",
)  # fmt: skip
_COLUMNS = ("Instrument", "Track", "Channel", "Notes", "Range", "At once", "Sounds as", "Play")

# Python makes the table, the browser alone sets the component's value: a choice for each row, none for a new song.
_ON_LOAD = """
const selects = () => [...element.querySelectorAll("select")];
const show = (select) => {
  const row = select.closest("tr"), option = select.selectedOptions[0];
  row.classList.toggle("muted", select.value === "mute");
  row.classList.toggle("swapped", !["keep", "mute"].includes(select.value));
  row.querySelector(".sounds").textContent = option.dataset.sounds || option.textContent;
};
let song = "";
watch("markup", () => {
  const table = element.querySelector("table"), now = table ? table.dataset.song : "";
  if (now !== song) props.value = [];
  song = now;
  selects().forEach((select, row) => {
    select.value = props.value[row] || "keep";
    show(select);
  });
});
element.addEventListener("change", (event) => {
  props.value = selects().map((select) => select.value);
  show(event.target);
});
"""


def orchestra() -> "gr.HTML":
    """The component, empty until :func:`shown` fills it. Its value is what :func:`chosen` takes."""
    import gradio as gr

    return gr.HTML([], html_template="${markup}", js_on_load=_ON_LOAD, markup="", elem_id="instruments")


def shown(song: OpenSong, voice: VoiceFacts) -> str:
    """The table as markup; every text of the file in it is escaped."""
    colours = colours_of(song.song.notes)
    heads = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    rows = []
    for item in song.instruments[:MAX_ROWS]:
        colour = colours[item.is_drum, 0 if item.is_drum else item.program]
        rows.append(_row(item, colour, voice))
    more = len(song.instruments) - MAX_ROWS
    note = f'<p class="facts">{more} more parts play as written.</p>' if more > 0 else ""
    head, body = f"<thead><tr>{heads}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="orchestra"><table data-song="{song.token}">{head}{body}</table></div>{note}'


def chosen(song: OpenSong, choices: Sequence[Any] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices as ``programs`` and ``mute`` of :class:`~specdiff_cli.midi.edits.Edits`.

    Raises:
        UsageError: a choice that the table does not offer.
    """
    programs, mute = [], []
    for item, choice in zip(song.instruments, choices or (), strict=False):
        text = str(choice)
        if text == MUTE:
            mute.append(item.selector)
        elif text.isascii() and text.isdigit() and int(text) < N_PROGRAMS and not item.is_drum:
            programs.append(f"{item.selector}:{int(text)}")
        elif text != KEEP:
            raise UsageError(
                f"{item.name}: can be kept, muted or, unless it is drums, play one of the programs 0 to 127"
            )
    return tuple(programs), tuple(mute)


def _row(item: PlayedInstrument, colour: str, voice: VoiceFacts) -> str:
    number = "" if item.is_drum else f' <span class="number">{item.program}</span>'
    track = ", ".join(map(str, item.tracks)) + (f" {item.track_name}" if item.track_name else "")
    sounds = _sounds(item, voice)
    cells = (
        ("Track", escape(track)),
        ("Channel", ", ".join(map(str, item.channels))),
        ("Notes", str(item.n_notes)),
        ("Range", item.pitch_range),
        ("At once", str(item.polyphony)),
    )
    plain = "".join(f'<td data-label="{label}">{text}</td>' for label, text in cells)
    return (
        f'<tr><th scope="row"><span class="swatch" style="background:{colour}"></span>{escape(item.name)}{number}</th>'
        f'{plain}<td data-label="Sounds as" class="sounds">{escape(sounds)}</td>'
        f'<td class="choice"><select aria-label="{escape(item.name)}: keep, swap or mute">'
        f'<option value="{KEEP}" data-sounds="{escape(sounds)}">keep</option>'
        f'<option value="{MUTE}" data-sounds="{SILENT}">mute</option>{"" if item.is_drum else _programs(voice)}'
        f"</select></td></tr>"
    )


def _sounds(item: PlayedInstrument, voice: VoiceFacts) -> str:
    if item.is_drum:
        return "Drums" if voice.plays_drums else SILENT
    return _capital(sounding_name(item.program, voice.programs))


def _programs(voice: VoiceFacts) -> str:
    groups = []
    size = N_PROGRAMS // len(FAMILIES)
    for index, family in enumerate(FAMILIES):
        options = []
        for program in range(index * size, (index + 1) * size):
            name, sounds = GM_NAMES[program], _capital(sounding_name(program, voice.programs))
            other = "" if sounds == name else f' data-sounds="{escape(sounds)}"'
            options.append(f'<option value="{program}"{other}>{escape(name)}</option>')
        groups.append(f'<optgroup label="{family}">{"".join(options)}</optgroup>')
    return "".join(groups)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
