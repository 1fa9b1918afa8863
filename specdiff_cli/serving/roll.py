"""A piano roll as inline SVG: numbers only, so that nothing a file says can become markup."""

from collections.abc import Sequence
from html import escape

from specdiff_cli.midi.notes import Note

WIDTH, PITCH_HEIGHT, DRUM_HEIGHT = 1200, 4, 5
MAX_BARS_DRAWN = 6000  # a browser stays quick; of more notes, those that would be drawn over each other go first
MIN_BAR_WIDTH = 1.5
# Told apart on white and on black; later instruments take them again.
COLOURS = ("#4c8bf5", "#f28b30", "#2fa866", "#d6498b", "#9a6be0", "#19b0bf", "#c9a227", "#e5594f", "#7c9a3d", "#a9756a")
DRUM_COLOUR = "#8a92a0"


def piano_roll(notes: Sequence[Note], duration_s: float, starts_s: Sequence[float] = ()) -> str:
    """The notes of a song as an SVG picture that fits any width.

    Args:
        notes: in any order; loud ones are opaque.
        duration_s: what the picture's width stands for.
        starts_s: of bars, drawn as thin lines.
    """
    pitched = [note for note in notes if not note.is_drum]
    drums = [note for note in notes if note.is_drum]
    lowest = min((note.pitch for note in pitched), default=60) - 2
    highest = max((note.pitch for note in pitched), default=72) + 2
    keys = sorted({note.pitch for note in drums})
    roll_height = (highest - lowest + 1) * PITCH_HEIGHT if pitched else 0
    height = roll_height + (len(keys) + 1) * DRUM_HEIGHT * bool(drums)
    scale = WIDTH / max(duration_s, 1e-3)
    colours = colours_of(notes)
    bars: dict[tuple[int, int, int], tuple[int, str]] = {}
    for note in notes:
        if note.is_drum:
            y = roll_height + DRUM_HEIGHT * (keys.index(note.pitch) + 1)
            x, width, thickness = note.start_s * scale, 2.0, DRUM_HEIGHT - 1
        else:
            y = (highest - note.pitch) * PITCH_HEIGHT
            x, width, thickness = note.start_s * scale, (note.end_s - note.start_s) * scale, PITCH_HEIGHT - 1
        width = max(width, MIN_BAR_WIDTH)
        place = (round(x * 2), round(width), y)
        if place not in bars or bars[place][0] < note.velocity:
            opacity = 0.45 + 0.55 * note.velocity / 127
            colour = colours[note.is_drum, 0 if note.is_drum else note.program]
            bars[place] = (
                note.velocity,
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{thickness}" '
                f'fill="{colour}" fill-opacity="{opacity:.2f}"/>',
            )
    shown = sorted(bars.values(), key=lambda bar: -bar[0])[:MAX_BARS_DRAWN]
    lines = _bar_lines([start_s * scale for start_s in starts_s], height)
    label = escape(f"Piano roll of {len(notes)} notes in {duration_s:.0f} seconds")
    return (
        f'<svg class="roll" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {max(height, 1)}" '
        f'preserveAspectRatio="none">{lines}{"".join(markup for _, markup in shown)}</svg>'
    )


def colours_of(notes: Sequence[Note]) -> dict[tuple[bool, int], str]:
    """(is_drum, program) -> colour, the instruments with most notes first; drums are one."""
    counts: dict[tuple[bool, int], int] = {}
    for note in notes:
        key = (note.is_drum, 0 if note.is_drum else note.program)
        counts[key] = counts.get(key, 0) + 1
    colours: dict[tuple[bool, int], str] = {}
    for key in sorted(counts, key=lambda key: (-counts[key], key)):
        n_taken = sum(not is_drum for is_drum, _ in colours)
        colours[key] = DRUM_COLOUR if key[0] else COLOURS[n_taken % len(COLOURS)]
    return colours


def _bar_lines(places: Sequence[float], height: int) -> str:
    if len(places) > WIDTH / 4:  # closer than this they would be a grey sheet
        return ""
    return "".join(
        f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}" stroke="currentColor" stroke-opacity="0.18"/>'
        for x in places
    )
