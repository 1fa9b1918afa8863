"""Where a cold start goes: what somebody waits for who types ``specdiff render``, part by part."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from specdiff_cli.errors import UsageError

PARTS = ("command line", "torch", "voice", "song", "end")
#: The command itself in a process of its own, which notes when torch is asked for, and the first module after it.
CHILD = """
import json, sys, time
marks = open(sys.argv.pop(1), "w")

class Watch:
    def __init__(self):
        self.name, self.seen_s = "torch", []

    def find_spec(self, name, path=None, target=None):
        if name == self.name or (self.seen_s and name.startswith(self.name)):
            self.name = "specdiff_cli."
            self.seen_s.append(time.time())
            if len(self.seen_s) == 2:
                sys.meta_path.remove(self)
                with marks:
                    json.dump(self.seen_s, marks)

sys.meta_path.insert(0, Watch())
from specdiff_cli.__main__ import main
main()
"""


def measure_cold_start(model: str, song: Path, n_rounds: int = 3) -> dict[str, float]:
    """Seconds of each of ``PARTS``, of the quickest of several processes, one after the other.

    Each is ``specdiff render`` as it is without other options, from before the process to after it: whatever
    SPECDIFF_* or the user file say holds. Raises UsageError when a process fails; its last line says why.
    """
    return min((_once(model, song) for _ in range(n_rounds)), key=lambda parts: sum(parts.values()))


def _once(model: str, song: Path) -> dict[str, float]:
    """Raises UsageError, OSError: no room for temporary files."""
    with tempfile.TemporaryDirectory(prefix="specdiff-cold-") as folder:
        marks = Path(folder) / "marks.json"
        render = ["render", str(song), "-o", str(Path(folder) / "song.wav"), "-m", model]
        command = [sys.executable, "-c", CHILD, str(marks), *render]
        moments_s, lines = [time.time()], []
        with subprocess.Popen(  # noqa: S603 - ourselves
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
        ) as process:
            for line in process.stderr or ():  # the first is said when the voice is there, the last when the file is
                lines.append(line.strip())
                moments_s.append(time.time())
        moments_s.append(time.time())
        if process.returncode != 0:
            raise UsageError(f"the cold start of {model} failed: {lines[-1] if lines else 'no reason was given'}")
        begun_s, first_line_s, *_, last_line_s, ended_s = moments_s
        torch_s, after_torch_s = json.loads(marks.read_text(encoding="utf-8"))
    marks_s = (begun_s, torch_s, after_torch_s, first_line_s, last_line_s, ended_s)
    return {name: after - before for name, before, after in zip(PARTS, marks_s, marks_s[1:], strict=False)}
