import xml.etree.ElementTree as ET

from specdiff_cli.midi.notes import Note
from specdiff_cli.serving.roll import DRUM_COLOUR, MAX_BARS_DRAWN, WIDTH, colours_of, piano_roll


def _bars(markup: str) -> list[dict[str, float]]:
    names = ("x", "y", "width", "height")
    return [{name: float(rect.attrib[name]) for name in names} for rect in ET.fromstring(markup).iter("rect")]


def test_notes_stand_at_their_times_and_pitches() -> None:
    notes = [Note(0.0, 1.0, 60, 100, 0, False), Note(2.0, 4.0, 72, 100, 0, False)]
    low, high = sorted(_bars(piano_roll(notes, 4.0)), key=lambda bar: bar["x"])
    assert (low["x"], low["width"]) == (0.0, WIDTH / 4)
    assert (high["x"], high["width"]) == (WIDTH / 2, WIDTH / 2)
    assert high["y"] < low["y"], "higher pitches stand higher"


def test_drums_have_lanes_below_the_pitches() -> None:
    notes = [Note(0.0, 1.0, 30, 100, 0, False), Note(0.0, 0.1, 36, 100, 0, True), Note(0.5, 0.6, 42, 100, 0, True)]
    pitched, *drums = sorted(_bars(piano_roll(notes, 1.0)), key=lambda bar: bar["y"])
    assert len({bar["y"] for bar in drums}) == 2
    assert all(bar["y"] > pitched["y"] for bar in drums)


def test_a_song_of_very_many_notes_stays_a_small_picture() -> None:
    notes = [Note(i / 1000, i / 1000 + 0.1, 20 + i % 100, 1 + i % 127, i % 128, False) for i in range(30_000)]
    markup = piano_roll(notes, 30.0)
    assert len(_bars(markup)) <= MAX_BARS_DRAWN
    assert len(markup) < 1_000_000


def test_a_song_without_length_or_notes_is_a_picture_too() -> None:
    assert _bars(piano_roll([], 0.0)) == []
    assert len(_bars(piano_roll([Note(0.0, 0.0, 60, 1, 0, False)], 0.0))) == 1


def test_every_instrument_has_a_colour_of_its_own_as_far_as_there_are_any() -> None:
    notes = [Note(0, 1, 60, 100, program, False) for program in range(8)] + [Note(0, 1, 38, 100, 5, True)]
    colours = colours_of(notes)
    assert len(set(colours.values())) == 9
    assert colours[True, 0] == DRUM_COLOUR
