"""docs/reliability.md names tests that exist, in the files that it says."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_test_on_the_page_exists() -> None:
    defined = {
        name: path.name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    text = PAGE.read_text()
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 60
    assert [name for name in named if name not in defined] == []
    for path in re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)`", text):
        assert list(TESTS.rglob(Path(path).name)), path
