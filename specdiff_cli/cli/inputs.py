"""What the user named, as a list of files."""

from pathlib import Path

from specdiff_cli.errors import MidiError

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".smf")


def expand(item: Path) -> list[Path]:
    """The MIDI files an argument stands for: itself, or those directly inside a folder, sorted by name.

    Raises:
        MidiError: a folder cannot be listed or holds no MIDI file. Whether a file exists is left to its reader.
    """
    if not item.is_dir():
        return [item]
    try:
        found = sorted(path for path in item.iterdir() if path.suffix.lower() in MIDI_SUFFIXES and path.is_file())
    except OSError as error:
        raise MidiError(f"{item}: cannot be listed ({error.strerror})") from None
    if not found:
        raise MidiError(f"{item}: this folder holds no MIDI file ({', '.join(MIDI_SUFFIXES)})")
    return found
