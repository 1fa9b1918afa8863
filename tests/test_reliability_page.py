"""docs/reliability.md names tests that exist, in the files that it says."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_test_on_the_page_exists() -> None:
    """Between two semicolons a test belongs to the file named before it, else to the one in the head of its table."""
    defined = {path.name: re.findall(r"^def (test_\w+)", path.read_text(), re.M) for path in TESTS.rglob("test_*.py")}
    n_named = 0
    default = ""
    for line in PAGE.read_text().splitlines():
        if not line.startswith("|") or "(tests in" in line:
            default = next(iter(_files(line)), "")
            continue
        for part in line.split(";"):
            file = next(iter(_files(part)), default)
            for name in re.findall(r"`(test_\w+)`", part):
                n_named += 1
                assert name in defined.get(file, ()), f"{name} is not in {file or 'a file that is named'}"
    assert n_named > 100


def _files(text: str) -> list[str]:
    return re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)`", text)
