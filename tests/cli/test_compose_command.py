"""``specdiff compose``: pieces, songs that are worked on, and what it says to nonsense."""

import json
import sys
from pathlib import Path

import pytest
from command_line import specdiff
from midi_files import midi_bytes, note
from songs_for_composing import song_bytes
from typer.testing import Result

from specdiff_cli.composing.bundle import load_composer
from specdiff_cli.midi.notes import Note, read_midi

QUICK = ("--steps", "4", "--notes", "24")


def call(*arguments: str | Path) -> Result:
    return specdiff("compose", *arguments)


def notes_of(path: Path) -> list[tuple[float, float, int]]:
    return sorted((round(n.start_s, 4), round(n.end_s, 4), n.pitch) for n in read_midi(path).notes)


def test_pieces_out_of_nothing(tmp_path: Path) -> None:
    result = call(tmp_path / "new" / "pieces", "--n", "3", *QUICK, "--json", "-q")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(row["path"]).name for row in rows] == [f"sample_n_{index}.mid" for index in (1, 2, 3)]
    assert {row["n_notes"] for row in rows} == {24}
    for row in rows:
        song = read_midi(Path(row["path"]))
        assert len(song.notes) == 24
        assert song.end_s == pytest.approx(row["duration_s"], abs=4.0)  # a repeated key may end early
        assert song.tempo_changes[0][1] == pytest.approx(row["tempo_bpm"], rel=1e-4)
        assert song.bars is not None
        assert song.bars.meters[0].name == row["metre"]
        assert {n.program for n in song.notes} == {0}
    assert len({tuple(notes_of(Path(row["path"]))) for row in rows}) == 3


def test_same_seed_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert call(tmp_path / name, "--n", "1", "--seed", seed, *QUICK).exit_code == 0
    a, b, c = ((tmp_path / name / "sample_n_1.mid").read_bytes() for name in "abc")
    assert a == b != c


def test_music_that_is_asked_for(tmp_path: Path) -> None:
    wishes = ("--tempo", "72", "--metre", "3/4", "--key", "Am", "--program", "harp", "--melody-program", "73")
    result = call(tmp_path, "--n", "2", *QUICK, *wishes, "--output-template", "{model}-{seed}-{index:03}", "--json")
    assert result.exit_code == 0, result.output
    song = read_midi(tmp_path / "lieder-0-002.mid")
    ((_, beats_per_minute),) = song.tempo_changes
    assert beats_per_minute == pytest.approx(72, rel=1e-4)
    assert song.bars is not None
    assert song.bars.meters[0].name == "3/4"
    assert {n.program for n in song.notes} <= {46, 73}
    assert '"A minor"' in result.stdout


def test_a_small_batch_makes_the_pieces_of_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specdiff_cli.composing import composer

    whole = composer.compose

    def short_of_memory(network, wishes, *rest):  # type: ignore[no-untyped-def]
        if len(wishes) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(network, wishes, *rest)

    monkeypatch.setattr(composer, "compose", short_of_memory)
    assert call(tmp_path, "--n", "5", *QUICK).exit_code == 0
    assert len(list(tmp_path.glob("*.mid"))) == 5


def test_an_interruption_leaves_the_pieces_of_earlier_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specdiff_cli.composing import composer

    whole, sizes = composer.compose, []

    def interrupted(network, wishes, *rest):  # type: ignore[no-untyped-def]
        sizes.append(len(wishes))
        if len(sizes) == 2:
            raise KeyboardInterrupt
        return whole(network, wishes, *rest)

    monkeypatch.setattr(composer, "compose", interrupted)
    result = call(tmp_path, "--n", "12", "--steps", "3", "--notes", "8")
    assert result.exit_code == 130
    assert sizes == [8, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"sample_n_{index}.mid" for index in range(1, 9)]


def test_pieces_in_either_precision(tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        assert call(tmp_path / dtype, "--n", "1", *QUICK, "--dtype", dtype).exit_code == 0
        assert len(read_midi(tmp_path / dtype / "sample_n_1.mid").notes) == 24


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mid"
    path.write_bytes(song_bytes(0, n_bars=8))
    return path


def test_a_song_goes_on(song: Path, tmp_path: Path) -> None:
    assert call(tmp_path / "out", "--n", "1", "--continue", song, *QUICK).exit_code == 0
    before, after = notes_of(song), notes_of(tmp_path / "out" / "sample_n_1.mid")
    assert set(before) <= set(after)
    assert len(after) == len(before) + 24
    last_s = max(start for start, _, _ in before)
    assert all(start >= last_s for start, _, _ in set(after) - set(before))


@pytest.mark.parametrize("gap", ["bar:3-bar:5", "bar:3:bar:5", "3.6-7.2", "3.6:7.2"])
def test_a_gap_is_filled(song: Path, tmp_path: Path, gap: str) -> None:
    result = call(tmp_path / "out", "--n", "1", "--steps", "4", "--fill", gap, song)
    assert result.exit_code == 0, result.output
    before, after = notes_of(song), notes_of(tmp_path / "out" / "sample_n_1.mid")

    def outside(found: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
        return [row for row in found if not 3.599 <= row[0] < 7.199]

    assert outside(before) == outside(after)
    assert len(after) > len(outside(after))


def test_the_beginning_is_filled(song: Path, tmp_path: Path) -> None:
    assert call(tmp_path / "out", "--n", "1", "--steps", "4", "--fill", "0-3.6", song).exit_code == 0
    after = notes_of(tmp_path / "out" / "sample_n_1.mid")
    assert [row for row in after if row[0] >= 3.599] == [row for row in notes_of(song) if row[0] >= 3.599]


def test_other_harmonies_keep_rhythm_and_tune(song: Path, tmp_path: Path) -> None:
    assert call(tmp_path / "out", "--n", "1", "--steps", "4", "--reharmonise", song).exit_code == 0
    before, after = read_midi(song).notes, read_midi(tmp_path / "out" / "sample_n_1.mid").notes

    def plain(notes: list[Note], *, is_tune: bool) -> list[tuple[float, float, int]]:
        chosen = [n for n in notes if (n.program == 73) == is_tune]
        return sorted((round(n.start_s, 4), round(n.end_s, 4), n.pitch) for n in chosen)

    assert plain(before, is_tune=True) == plain(after, is_tune=True)
    rhythm = [sorted(row[:2] for row in plain(notes, is_tune=False)) for notes in (before, after)]
    assert rhythm[0] == rhythm[1]
    assert plain(before, is_tune=False) != plain(after, is_tune=False)


def test_a_tune_is_accompanied(tmp_path: Path) -> None:
    tune = tmp_path / "tune.mid"
    pitches = [72, 74, 76, 77, 79, 77, 76, 74, 72, 67, 72, 72]
    tune.write_bytes(midi_bytes([x for i, p in enumerate(pitches) for x in note(i * 480, i * 480 + 480, 0, p)]))
    assert call(tmp_path / "out", "--n", "1", "--steps", "4", "--accompany", tune).exit_code == 0
    before, after = notes_of(tune), notes_of(tmp_path / "out" / "sample_n_1.mid")
    assert set(before) <= set(after)
    assert len(after) > len(before)
    assert max(start for start, _, _ in after) <= before[-1][0]


def test_pieces_are_rendered_by_options_behind_render(voice: str, tmp_path: Path) -> None:
    result = call(tmp_path, "--n", "2", *QUICK, "--tempo", "300", "--render", "-m", voice, "--steps", "1", "-q")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"sample_n_{index}.{suffix}" for index in (1, 2) for suffix in ("mid", "wav")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--n", "0"], 2, "--n 0: must be between 1 and"),
        (["--notes", "1"], 2, "--notes 1: must be between 2 and"),
        (["--temperature", "0"], 2, "--temperature 0: must be between"),
        (["--dtype", "int8"], 2, "--dtype int8: is not one of auto, float32, bfloat16"),
        (["--key", "H"], 2, "is no key"),
        (["--metre", "7/8"], 2, "is not one of 2/4"),
        (["--density", "8"], 2, "must be between 0"),
        (["--program", "kazoo band"], 2, "--program 'kazoo band'"),
        (["--program", "drums"], 2, "is no melodic instrument"),
        (["--output-template", "piece.mid"], 2, "names several pieces alike"),
        (["--output-template", "{song}{index}.mid"], 2, "cannot be filled in"),
        (["--output-template", "../{index}.mid"], 2, "must name a file inside OUT_DIR"),
        (["--fill", "bar:4-bar:2", "SONG"], 2, "--fill bar:2 does not come after --fill bar:4"),
        (["--fill", "bar:400-bar:402", "SONG"], 3, "the song ends before that"),
        (["--fill", "1:30:1:45", "SONG"], 2, "can be read in several ways"),
        (["--fill", "here", "SONG"], 2, "is no range"),
        (["--continue", "SONG", "--accompany", "SONG"], 2, "are different tasks; give one"),
        (["--accompany", "SONG", "--notes", "5"], 2, "--notes: --accompany takes as many notes"),
        (["--continue", "SONG", "--metre", "4/4"], 2, "--metre: the song given with --continue has its own"),
        (["--continue", "nowhere.mid"], 3, "no such file"),
        (["-m", "nobody"], 4, "is neither a composer of this package (lieder)"),
        (["--render", "--steps", "many"], 2, "integer"),
    ],
)
def test_nonsense_gives_one_line_and_no_file(
    arguments: list[str], code: int, words: str, song: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = call(out, *(str(song) if word == "SONG" else word for word in arguments))
    assert result.exit_code == code, result.output
    assert words in result.output + str(result.exception)
    assert not list(out.glob("*")) if out.exists() else True


def test_what_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "sample_n_2.mid").write_bytes(b"mine")
    result = call(tmp_path, "--n", "2", *QUICK)
    assert result.exit_code == 5
    assert "sample_n_2.mid exists already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sample_n_2.mid"]
    assert call(tmp_path, "--n", "2", *QUICK, "--overwrite").exit_code == 0
    assert len(read_midi(tmp_path / "sample_n_2.mid").notes) == 24


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call(tmp_path / "file" / "pieces", "--n", "1", *QUICK)
    assert result.exit_code == 5
    assert "cannot make the folder" in result.stderr


def test_a_folder_of_weights_that_is_none(tmp_path: Path) -> None:
    result = call(tmp_path / "out", "-m", tmp_path, *QUICK)
    assert result.exit_code == 4
    assert "holds no composer.json" in result.stderr


def test_the_bundled_composer_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from specdiff_cli.composing import bundle
    from specdiff_cli.errors import WeightsError

    folder = bundle.bundled_folder("lieder")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12_000_000
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        (tmp_path / path.name).write_bytes(data)
    monkeypatch.setattr(bundle, "bundled_folder", lambda name: tmp_path)
    with pytest.raises(WeightsError, match="wrong content"):
        load_composer("lieder")


def test_numbers_about_pieces(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"song{index}.mid").write_bytes(song_bytes(index))
    arguments = ["evaluate-music", str(tmp_path), "--against", str(tmp_path), "--notes", "32"]
    result = specdiff(*arguments, "--training", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["n_generated"] == found["n_real"] == 9
    assert found["n_features_alike"] == 9
    assert found["novelty"]["largest_notes"] >= 31
    plain = specdiff(*arguments, env={"COLUMNS": "100"})
    assert "pitch-class entropy, bits" in plain.stdout
    assert "9 of 9" in plain.stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    assert specdiff("evaluate-music", empty, "--against", tmp_path).exit_code == 2
    assert specdiff(*arguments[:-1], "5000").exit_code == 3
