"""General MIDI program names and the instrument classes that the models were trained with.

The class list is the one of the reference system (Slakh2100 classes; Hawthorne et al. 2022, section 3.1).
"""

from bisect import bisect_right

N_PROGRAMS = 128

#: First General MIDI program of each model class -> name of the class.
MODEL_CLASSES: dict[int, str] = {
    0: "acoustic piano",
    4: "electric piano",
    8: "chromatic percussion",
    16: "organ",
    24: "acoustic guitar",
    26: "clean electric guitar",
    29: "distorted electric guitar",
    32: "acoustic bass",
    33: "electric bass",
    40: "violin",
    41: "viola",
    42: "cello",
    43: "contrabass",
    46: "orchestral harp",
    47: "timpani",
    48: "string ensemble",
    50: "synth strings",
    52: "choir and voice",
    55: "orchestral hit",
    56: "trumpet",
    57: "trombone",
    58: "tuba",
    60: "french horn",
    61: "brass section",
    64: "soprano/alto sax",
    66: "tenor sax",
    67: "baritone sax",
    68: "oboe",
    69: "english horn",
    70: "bassoon",
    71: "clarinet",
    73: "pipe",
    80: "synth lead",
    88: "synth pad",
}
_CLASS_STARTS = sorted(MODEL_CLASSES)

GM_NAMES: tuple[str, ...] = tuple(
    """
Acoustic Grand Piano|Bright Acoustic Piano|Electric Grand Piano|Honky-tonk Piano
Electric Piano 1|Electric Piano 2|Harpsichord|Clavinet
Celesta|Glockenspiel|Music Box|Vibraphone|Marimba|Xylophone|Tubular Bells|Dulcimer
Drawbar Organ|Percussive Organ|Rock Organ|Church Organ|Reed Organ|Accordion|Harmonica|Tango Accordion
Acoustic Guitar (nylon)|Acoustic Guitar (steel)|Electric Guitar (jazz)|Electric Guitar (clean)
Electric Guitar (muted)|Overdriven Guitar|Distortion Guitar|Guitar Harmonics
Acoustic Bass|Electric Bass (finger)|Electric Bass (pick)|Fretless Bass
Slap Bass 1|Slap Bass 2|Synth Bass 1|Synth Bass 2
Violin|Viola|Cello|Contrabass|Tremolo Strings|Pizzicato Strings|Orchestral Harp|Timpani
String Ensemble 1|String Ensemble 2|Synth Strings 1|Synth Strings 2
Choir Aahs|Voice Oohs|Synth Voice|Orchestra Hit
Trumpet|Trombone|Tuba|Muted Trumpet|French Horn|Brass Section|Synth Brass 1|Synth Brass 2
Soprano Sax|Alto Sax|Tenor Sax|Baritone Sax|Oboe|English Horn|Bassoon|Clarinet
Piccolo|Flute|Recorder|Pan Flute|Blown Bottle|Shakuhachi|Whistle|Ocarina
Lead 1 (square)|Lead 2 (sawtooth)|Lead 3 (calliope)|Lead 4 (chiff)
Lead 5 (charang)|Lead 6 (voice)|Lead 7 (fifths)|Lead 8 (bass + lead)
Pad 1 (new age)|Pad 2 (warm)|Pad 3 (polysynth)|Pad 4 (choir)
Pad 5 (bowed)|Pad 6 (metallic)|Pad 7 (halo)|Pad 8 (sweep)
FX 1 (rain)|FX 2 (soundtrack)|FX 3 (crystal)|FX 4 (atmosphere)
FX 5 (brightness)|FX 6 (goblins)|FX 7 (echoes)|FX 8 (sci-fi)
Sitar|Banjo|Shamisen|Koto|Kalimba|Bagpipe|Fiddle|Shanai
Tinkle Bell|Agogo|Steel Drums|Woodblock|Taiko Drum|Melodic Tom|Synth Drum|Reverse Cymbal
Guitar Fret Noise|Breath Noise|Seashore|Bird Tweet|Telephone Ring|Helicopter|Applause|Gunshot
""".strip()
    .replace("\n", "|")
    .split("|")
)


def model_class(program: int) -> int:
    """Fold a General MIDI program (0-127) onto the largest class number not above it."""
    return _CLASS_STARTS[bisect_right(_CLASS_STARTS, program) - 1]


def all_programs() -> list[dict[str, int | str]]:
    """Number, name and model class of each program of General MIDI, in plain types."""
    return [
        {"program": program, "name": name, "model_class": MODEL_CLASSES[model_class(program)]}
        for program, name in enumerate(GM_NAMES)
    ]
