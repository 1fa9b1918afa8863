"""Many inputs: the same jobs as few, without holding them; what is wrong shows before anything starts."""

import io
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from specdiff_cli.cluster import jobs
from specdiff_cli.cluster.jobs import Seen, planned
from specdiff_cli.errors import SpecdiffError
from specdiff_cli.rendering.inputs import Source, gather
from specdiff_cli.rendering.jobs import Job, plan
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.weights.voices import find_voice


@pytest.fixture(params=[10_000, 3], ids=["held", "one by one"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    monkeypatch.setattr(jobs, "MAX_HELD", request.param)
    monkeypatch.setattr(jobs, "CHUNK", 2)
    monkeypatch.chdir(tmp_path)
    for name in ("b/x.mid", "b/y.MID", "a.mid", "a/z.kar", "a/n/w.mid", "a/no.txt", "c.mid"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return int(request.param)


def settled(**options: object) -> Settled:
    request = Request.of({"output": "out/", "recursive": True, **options})
    return settle(request, find_voice("tiny"))


def jobs_of(asked: Settled) -> list[Job]:
    with planned(asked) as found:
        listed = list(found.jobs)
        assert len(listed) == found.n_jobs
        return listed


@pytest.mark.parametrize("template", [None, "{index:03}-{stem}.wav"])
@pytest.mark.usefixtures("limit")
def test_they_are_the_jobs_of_one_process(template: str | None) -> None:
    asked = settled(inputs=("in", "in/c.mid", "in/*.mid"), output_template=template)
    sources, left_out = gather(asked.request.inputs)
    expected = plan(sources, asked)
    with planned(asked) as found:
        assert found.left_out == left_out
        assert left_out.n_repeated == 3
        listed = list(found.jobs)
    assert sorted(listed, key=str) == sorted(expected, key=str)
    if template is not None:
        assert listed == expected


@pytest.mark.usefixtures("limit")
def test_names_from_standard_input_are_read_as_often_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = b"\xef\xbb\xbfin/a.mid\r\n\r\nin/c.mid\nin/b\nin/a.mid\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(names)))
    found = jobs_of(settled(files_from="-"))
    assert {str(job.source) for job in found} == {"in/a.mid", "in/c.mid", "in/b/x.mid", "in/b/y.MID"}


@pytest.mark.usefixtures("limit")
def test_names_that_end_with_nul(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"in/a.mid\0in/c.mid\0in/odd\nname.mid\0in/b/x.mid\0")
    found = jobs_of(settled(files_from="list", null=True))
    assert {str(job.source) for job in found} == {"in/a.mid", "in/c.mid", "in/odd\nname.mid", "in/b/x.mid"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ("in",), "output_template": "same.wav"}, "would (both )?be written to"),
        ({"inputs": ()}, "inputs: is missing"),
        ({"inputs": ("in", "")}, "empty name"),
        ({"files_from": "no-such-list"}, "cannot be read"),
        ({"inputs": ("empty",)}, "holds no MIDI file"),
        ({"inputs": ("in",), "output": "in/a/no.txt"}, "is a file; several inputs need a folder"),
    ],
)
@pytest.mark.usefixtures("limit")
def test_what_is_wrong_shows_before_anything_starts(options: dict[str, object], message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(SpecdiffError, match=message), planned(settled(**options)):
        pass


@pytest.mark.usefixtures("limit")
def test_an_empty_list_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\n \n")
    with pytest.raises(SpecdiffError, match="list: holds no names"), planned(settled(files_from="list")):
        pass


def test_an_output_that_is_an_input_is_refused_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "MAX_HELD", 1)
    monkeypatch.setattr(jobs, "CHUNK", 1)
    monkeypatch.chdir(tmp_path)
    for name in ("a.mid", "a.wav"):
        Path(name).touch()
    with pytest.raises(SpecdiffError, match="input"), planned(settled(inputs=("a.mid", "a.wav"), output=".")):
        pass


def test_seen_texts_are_known_again_and_others_are_not() -> None:
    seen = Seen()
    assert all(seen.add(f"song {number}") for number in range(5000))
    assert not any(seen.add(f"song {number}") for number in range(5000))
    assert len(seen) == 5000
    assert "song 17" in seen
    assert "song 5000" not in seen


def test_memory_does_not_grow_with_the_number_of_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "MAX_HELD", 100)
    monkeypatch.setattr(jobs, "CHUNK", 100)
    monkeypatch.chdir(tmp_path)

    def most_bytes(n_files: int) -> int:
        """What this package's lines hold when the last inputs are looked at, and when the last are planned."""
        held = []

        def watched(sources: Sequence[Source], settled: Settled, first: int) -> list[Job]:
            if first + len(sources) > n_files:
                traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/specdiff_cli/*")])
                held.append(sum(trace.size for trace in traces.traces))
            return plan(sources, settled, first)

        monkeypatch.setattr(jobs, "plan", watched)
        Path("list").write_text("".join(f"{number}.mid\n" for number in range(n_files)))
        with planned(settled(files_from="list")) as found:
            assert sum(1 for _ in found.jobs) == found.n_jobs == n_files
        assert len(held) == 2
        return max(held)

    tracemalloc.start()
    try:
        most_bytes(101)  # what is loaded once
        assert most_bytes(900) - most_bytes(200) < 4 * 700  # four bytes of each
    finally:
        tracemalloc.stop()
