"""Damaged MIDI files, for as long as you like: success or our own error, within 2 s and 500 MB for up to 100 kB.

    python fuzz/mutate_midi.py FOLDER [--seconds 180] [--seed 0] [--findings DIR]

What breaks the rule is written to the findings folder, and the exit status is 1.
"""

import argparse
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from mutations import mutate

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.midi.summary import summarize_instruments
from specdiff_cli.midi.windows import tokenize

MAX_BYTES = 100_000
LIMIT_S = 2.0
LIMIT_MEMORY_BYTES = 500_000_000


class TooSlow(BaseException):
    """Not an Exception: no handler of the reader may swallow it."""


def main() -> int:
    """Run until the time is over; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="MIDI files to start from")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    arguments = parser.parse_args()
    seeds = [path.read_bytes()[:MAX_BYTES] for path in sorted(arguments.folder.rglob("*.mid"))]
    seeds = [data for data in seeds if data]
    if not seeds:
        parser.error(f"{arguments.folder}: holds no *.mid")
    limit_memory()
    signal.signal(signal.SIGPROF, too_slow)
    rng = random.Random(arguments.seed)  # noqa: S311 - no secret
    end_s = time.monotonic() + arguments.seconds
    n_files = n_read = n_findings = 0
    slowest_s = 0.0
    while time.monotonic() < end_s:
        data = mutate(rng.choice(seeds), rng, MAX_BYTES)
        start_s = time.process_time()
        finding, is_read = check(data)
        slowest_s = max(slowest_s, time.process_time() - start_s)
        n_files += 1
        n_read += is_read
        if finding is not None:
            n_findings += 1
            arguments.findings.mkdir(parents=True, exist_ok=True)
            path = arguments.findings / f"seed{arguments.seed}-{n_files}.mid"
            path.write_bytes(data)
            sys.stdout.write(f"{path}: {finding}\n")
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(
        f"{n_files} files: {n_read} read, {n_files - n_read - n_findings} refused, {n_findings} findings; "
        f"slowest {slowest_s:.2f} s, peak {peak_bytes / 1e6:.0f} MB of memory with the program itself\n"
    )
    return 1 if n_findings else 0


def limit_memory() -> None:
    """Allow 500 MB beyond what the program itself takes up."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit_bytes = pages * resource.getpagesize() + LIMIT_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow


def check(data: bytes) -> tuple[str | None, bool]:
    """(what is wrong, or None; was the file read?) of one file. Its time is that of the processor."""
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        song = parse_midi(data, "fuzz.mid")
        summarize_instruments(song.notes)
        for _ in tokenize(song.notes):
            pass
    except MidiError as error:
        return ("more than one line" if "\n" in str(error) else None), False
    except TooSlow:
        return f"more than {LIMIT_S:.0f} s", False
    except MemoryError:
        return "more than 500 MB", False
    except Exception:
        return traceback.format_exc(limit=-3), False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None, True


if __name__ == "__main__":
    sys.exit(main())
