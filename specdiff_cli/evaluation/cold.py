"""Where a cold start goes: from the start of a process to the last sample of a song, part by part."""

import json
import subprocess
import sys
import time
from pathlib import Path

from specdiff_cli.errors import UsageError

PARTS = ("python", "torch", "specdiff", "voice and vocoder", "first sound", "rest of the song")
#: Runs in a process of its own. Times are of the wall clock, since the parent started it.
CHILD = """
import json, sys, time
begun_s, model, song = float(sys.argv[1]), sys.argv[2], sys.argv[3]
marks = [time.time()]
from specdiff_cli.engine.waiting import wait_briefly
wait_briefly()
import torch
marks.append(time.time())
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.midi.notes import read_midi
marks.append(time.time())
synthesizer = load_synthesizer(model)
marks.append(time.time())
read = read_midi(song)
notes, _ = synthesizer.playable(read.notes)
chunks = synthesizer.stream(notes, read.end_s + 1.0, synthesizer.voice.sampling)
next(chunks)
marks.append(time.time())
for _ in chunks:
    pass
marks.append(time.time())
print(json.dumps([after - before for before, after in zip([begun_s, *marks], marks)]))
"""


def measure_cold_start(model: str, song: Path, n_rounds: int = 3) -> dict[str, float]:
    """Seconds of each of ``PARTS``, of the quickest of several processes, one after the other.

    Raises UsageError when a process fails; its last line says why.
    """
    return min((_once(model, song) for _ in range(n_rounds)), key=lambda parts: sum(parts.values()))


def _once(model: str, song: Path) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(time.time()), model, str(song)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise UsageError(f"the cold start of {model} failed: {reason}")
    return dict(zip(PARTS, json.loads(result.stdout.splitlines()[-1]), strict=True))
