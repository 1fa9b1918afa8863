"""Makes the 13 held-out pieces that voices are compared on, as MIDI files.

    python benchmarks/held_out_pieces.py LIEDER_FOLDER SONGS_FOLDER --out held-out/

Three Lieder as they are written, three composed piano pieces, four composed ensembles and three songs. Composed pieces
have seeds that `specdiff train data` never reaches, and a Lied is taken only if `train data` with its validation share
of 0.02 keeps it from training, so any corpus made of the same folder is without them. The folders are those of
OpenScore Lieder (CC0) and of Freedoom's `musics/`; the same version of this project writes the same files.
"""

import argparse
import shutil
from pathlib import Path

import mido

from specdiff_cli.corpus.compose import SOLO_PIANO, ComposeConfig, compose
from specdiff_cli.corpus.pieces import VALIDATION_SEED_OFFSET, is_validation_file

VALIDATION_SHARE = 0.02
SONGS = ("d_e1m1", "d_dm05", "d_map09")
ENSEMBLES = ComposeConfig(solo_piano_share=0.0, n_parts=(2, 6))
# Far above the seeds of any corpus's own validation pieces (corpus seed × 2^20 + number of the piece).
FIRST_SEED = VALIDATION_SEED_OFFSET << 1


def lieder(folder: Path, n_files: int) -> list[Path]:
    """The first files, by name, that training leaves out."""
    files = [path for path in sorted(folder.rglob("*.mid")) if is_validation_file(path, VALIDATION_SHARE)]
    if len(files) < n_files:
        raise SystemExit(f"{folder}: holds {len(files)} Lieder that training leaves out, {n_files} are needed")
    return files[:n_files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lieder", type=Path, help="folder of OpenScore Lieder as MIDI")
    parser.add_argument("songs", type=Path, help=f"folder with {', '.join(f'{name}.mid' for name in SONGS)}")
    parser.add_argument("--out", type=Path, default=Path("held-out"))
    arguments = parser.parse_args()
    files: dict[str, Path | mido.MidiFile] = {}
    files |= {f"lied-{i}": path for i, path in enumerate(lieder(arguments.lieder, 3))}
    files |= {f"piano-{i}": compose(FIRST_SEED + i, SOLO_PIANO) for i in range(3)}
    files |= {f"band-{i}": compose(FIRST_SEED + 10 + i, ENSEMBLES) for i in range(4)}
    files |= {f"song-{i}": arguments.songs / f"{name}.mid" for i, name in enumerate(SONGS)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        target = arguments.out / f"{name}.mid"
        if isinstance(source, Path):
            shutil.copyfile(source, target)
        else:
            source.save(target)
    print(f"{arguments.out}: {len(files)} pieces")


if __name__ == "__main__":
    main()
