"""Songs rendered side by side sound as they do alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_voices import write_diffusers_folder, write_voice_folder
from step_vocoder import StepVocoder

from specdiff_cli.engine.synthesizer import FinishedWindow, Piece, Progress, Sampling, Song, Synthesizer
from specdiff_cli.errors import DeviceError
from specdiff_cli.midi.notes import Note
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.weights.load import load_voice

CPU = torch.device("cpu")
TWO_STEPS = Sampling(2, "ddpm", "discrete")


@pytest.fixture(scope="module", params=["ours", "reference"])
def synthesizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = tmp_path_factory.mktemp("voices") / request.param
    folder = write_voice_folder(folder) if request.param == "ours" else write_diffusers_folder(folder, gain=0.1)
    return Synthesizer(load_voice(str(folder)), StepVocoder(), CPU, torch.float32)


def song(key: int, duration_s: float, seed: int = 0) -> Song[int]:
    notes = [Note(i / 3, i / 3 + 0.5, 40 + (key * 5 + i) % 40, 80, 0, False) for i in range(int(duration_s * 3))]
    return Song(key, notes, duration_s, seed)


# 3, 2, 1, 2 and 1 windows: in a batch of two, songs end and begin at different times.
SONGS = [song(0, 12.0, seed=5), song(1, 7.0, seed=6), song(2, 3.0), song(3, 5.2), song(4, 1.0)]


def alone(synthesizer: Synthesizer, item: Song[int], sampling: Sampling) -> np.ndarray:
    own = Sampling(sampling.steps, sampling.sampler, sampling.schedule, sampling.guidance, item.seed)
    return np.concatenate(list(synthesizer.stream(item.notes, item.duration_s, own)))


@pytest.mark.parametrize(
    "sampling",
    [TWO_STEPS, Sampling(3, "dpm++2m", "magenta"), Sampling(2, "ddim", "magenta", guidance=2.0)],
    ids=["ddpm", "dpm++2m", "guided"],
)
def test_side_by_side_equals_alone(synthesizer: Synthesizer, sampling: Sampling) -> None:
    audio: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    ended: list[int] = []
    for piece in synthesizer.stream_many(SONGS, sampling, batch=2):
        assert piece.key not in ended
        audio[piece.key].append(piece.audio)
        if piece.is_last:
            ended.append(piece.key)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    for item in SONGS:
        expected = alone(synthesizer, item, sampling)
        # The audio is the log-mel itself, which spans 15: larger matrix products round differently.
        np.testing.assert_allclose(np.concatenate(audio[item.key]), expected, atol=2e-3)


def test_songs_are_taken_when_there_is_room(synthesizer: Synthesizer) -> None:
    taken: list[int] = []

    def songs() -> Iterator[Song[int]]:
        for item in SONGS:
            taken.append(item.key)
            yield item

    for piece in synthesizer.stream_many(songs(), TWO_STEPS, batch=2):
        assert len(taken) <= 3 or piece.key > 0
    assert taken == [0, 1, 2, 3, 4]


def test_each_song_has_its_own_progress(synthesizer: Synthesizer) -> None:
    seen: list[tuple[int, int, int]] = []

    def listening(item: Song[int]) -> Song[int]:
        return replace(item, on_progress=lambda at: seen.append((item.key, at.window, at.step)))

    list(synthesizer.stream_many(map(listening, SONGS[2:4]), TWO_STEPS, batch=2))
    assert seen == [(2, 0, 1), (3, 0, 1), (2, 0, 2), (3, 0, 2), (3, 1, 1), (3, 1, 2)]


def test_a_batch_too_large_for_memory_is_halved(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = CompiledNetwork.decode

    def small_memory(self: CompiledNetwork, x: torch.Tensor, film: torch.Tensor, memory: Memory) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(self, x, film, memory)

    expected = {item.key: alone(synthesizer, item, TWO_STEPS) for item in SONGS}
    monkeypatch.setattr(CompiledNetwork, "decode", small_memory)
    notes: list[str] = []
    audio: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    for piece in synthesizer.stream_many(SONGS, TWO_STEPS, batch=4, on_message=notes.append):
        audio[piece.key].append(piece.audio)
    assert [size for size in sizes if size > 1] == [4, 2]
    assert notes == [
        "4 songs at once do not fit into the memory of cpu; going on with 2",
        "2 songs at once do not fit into the memory of cpu; going on with 1",
    ]
    for key, pieces in audio.items():  # the noise of the failed attempts was not used up
        assert np.concatenate(pieces).tobytes() == expected[key].tobytes()


def test_one_song_too_large_for_memory_is_a_clean_failure(
    synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(CompiledNetwork, "decode", no_memory)
    with pytest.raises(DeviceError, match="out of memory on cpu; use dtype bfloat16, a smaller model$"):
        list(synthesizer.stream([], 1.0, TWO_STEPS))


def test_other_errors_are_passed_on(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(CompiledNetwork, "decode", broken)
    for overlap in (False, True):
        monkeypatch.setattr(synthesizer, "overlap", overlap)
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            list(synthesizer.stream([], 1.0, TWO_STEPS))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++2m"])
@pytest.mark.parametrize("n_finished", [1, 2, 3])
def test_a_resumed_song_is_the_uninterrupted_one(synthesizer: Synthesizer, sampler: str, n_finished: int) -> None:
    sampling = Sampling(2, sampler, "discrete", seed=9)
    item = SONGS[0]
    windows: list[FinishedWindow] = []
    whole = list(synthesizer.stream(item.notes, item.duration_s, sampling, on_window=windows.append))
    assert len(windows) == 3
    again: list[FinishedWindow] = []
    steps: list[Progress] = []
    resumed = synthesizer.stream(
        item.notes,
        item.duration_s,
        sampling,
        on_progress=steps.append,
        finished=iter(windows[:n_finished]),
        on_window=again.append,
    )
    assert np.concatenate(list(resumed)).tobytes() == np.concatenate(whole).tobytes()
    assert [window.noise_state for window in again] == [window.noise_state for window in windows[n_finished:]]
    assert [at.window for at in steps] == [index for index in range(n_finished, 3) for _ in range(2)]


def test_sampling_ahead_changes_nothing(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    item = SONGS[0]
    chunks = list(synthesizer.stream(item.notes, item.duration_s, TWO_STEPS))
    monkeypatch.setattr(synthesizer, "overlap", True)
    ahead = list(synthesizer.stream(item.notes, item.duration_s, TWO_STEPS))
    assert [chunk.tobytes() for chunk in ahead] == [chunk.tobytes() for chunk in chunks]


def test_sampling_ahead_stops_when_nobody_listens(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "overlap", True)
    steps: list[Progress] = []
    long = song(0, 600.0)
    stream = synthesizer.stream(long.notes, long.duration_s, TWO_STEPS, on_progress=steps.append)
    next(stream)
    stream.close()
    n_steps = len(steps)
    assert n_steps <= 2 * 4  # the window that was heard, one that waited, one begun
    assert next(stream, None) is None
    assert len(steps) == n_steps


@pytest.mark.parametrize("ahead", [False, True])
def test_a_song_given_up_ends_alone(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
    monkeypatch.setattr(synthesizer, "overlap", ahead)
    given_up: set[int] = set()
    audio: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    for piece in synthesizer.stream_many(SONGS, TWO_STEPS, batch=2, given_up=given_up):
        assert piece.key not in given_up
        audio[piece.key].append(piece.audio)
        if piece.key == 0:
            given_up.add(0)
    assert len(audio.pop(0)) == 1
    for key, pieces in audio.items():
        np.testing.assert_allclose(np.concatenate(pieces), alone(synthesizer, SONGS[key], TWO_STEPS), atol=2e-3)


class Broken(Exception):
    pass


def broken_notes(item: Song[int]) -> Song[int]:
    return replace(item, notes=[replace(item.notes[0], pitch=None)])  # type: ignore[arg-type]


def broken_mel(item: Song[int]) -> Song[int]:
    def on_mel(_mel: np.ndarray) -> None:
        raise Broken

    return replace(item, on_mel=on_mel)


def broken_window(item: Song[int]) -> Song[int]:
    def on_window(_window: FinishedWindow) -> None:
        raise Broken

    return replace(item, on_window=on_window)


def broken_finished(item: Song[int]) -> Song[int]:
    def window(_index: int) -> FinishedWindow:
        raise Broken

    return replace(item, finished=map(window, range(1)))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("broken", [broken_notes, broken_mel, broken_window, broken_finished])
def test_a_song_that_fails_ends_alone(
    synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Song[int]], Song[int]], ahead: bool
) -> None:
    monkeypatch.setattr(synthesizer, "overlap", ahead)
    songs = [SONGS[0], broken(SONGS[1]), *SONGS[2:]]
    pieces: dict[int, list[Piece[int]]] = {item.key: [] for item in songs}
    for piece in synthesizer.stream_many(songs, TWO_STEPS, batch=2):
        pieces[piece.key].append(piece)
    [failed] = pieces.pop(1)
    assert isinstance(failed.error, TypeError if broken is broken_notes else Broken)
    assert failed.is_last
    assert len(failed.audio) == 0
    for key, good in pieces.items():
        assert [piece.error for piece in good] == [None] * len(good)
        audio = np.concatenate([piece.audio for piece in good])
        np.testing.assert_allclose(audio, alone(synthesizer, SONGS[key], TWO_STEPS), atol=2e-3)


def test_what_fails_in_a_single_song_is_raised(synthesizer: Synthesizer) -> None:
    for broken, error in ((broken_notes, TypeError), (broken_mel, Broken), (broken_finished, Broken)):
        item = broken(SONGS[1])
        with pytest.raises(error):
            list(synthesizer.stream(item.notes, item.duration_s, TWO_STEPS, on_mel=item.on_mel, finished=item.finished))


def test_songs_of_a_batch_go_on_where_they_stopped(synthesizer: Synthesizer) -> None:
    """Each song has its own finished windows and hands over its own new ones; also while memory runs out."""
    windows: dict[int, list[FinishedWindow]] = {item.key: [] for item in SONGS}
    whole: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    mels: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    first = [replace(item, on_window=windows[item.key].append, on_mel=mels[item.key].append) for item in SONGS]
    for piece in synthesizer.stream_many(first, TWO_STEPS, batch=1):
        whole[piece.key].append(piece.audio)
    assert [len(windows[item.key]) for item in SONGS] == [3, 2, 1, 2, 1]
    assert sum(map(len, mels[0])) == 600
    rest: dict[int, list[FinishedWindow]] = {item.key: [] for item in SONGS}
    again: dict[int, list[np.ndarray]] = {item.key: [] for item in SONGS}
    second = [
        replace(item, finished=windows[item.key][: 2 - item.key % 2], on_window=rest[item.key].append) for item in SONGS
    ]
    for piece in synthesizer.stream_many(second, TWO_STEPS, batch=4):
        again[piece.key].append(piece.audio)
    assert [len(rest[item.key]) for item in SONGS] == [1, 1, 0, 1, 0]
    for key, pieces in again.items():
        np.testing.assert_allclose(np.concatenate(pieces), np.concatenate(whole[key]), atol=2e-3)


def test_stems_stay_together_after_a_batch_was_halved(
    synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Songs of one length that begin together get their next windows in turn, so that they can be added up."""
    decode = CompiledNetwork.decode

    def small_memory(self: CompiledNetwork, x: torch.Tensor, film: torch.Tensor, memory: Memory) -> torch.Tensor:
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(self, x, film, memory)

    monkeypatch.setattr(CompiledNetwork, "decode", small_memory)
    stems = [song(key, 15.0, seed=key) for key in range(5)]
    order = [piece.key for piece in synthesizer.stream_many(stems, TWO_STEPS, batch=5)]
    assert order == [0, 1, 2, 3, 4] * 3


def test_finished_windows_are_not_lost_when_memory_runs_out(
    synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[FinishedWindow] = []
    whole = list(
        synthesizer.stream(SONGS[0].notes, 12.0, Sampling(2, "ddpm", "discrete", seed=5), on_window=windows.append)
    )
    decode = CompiledNetwork.decode

    def small_memory(self: CompiledNetwork, x: torch.Tensor, film: torch.Tensor, memory: Memory) -> torch.Tensor:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(self, x, film, memory)

    monkeypatch.setattr(CompiledNetwork, "decode", small_memory)
    resumed = replace(SONGS[0], finished=iter(windows[:1]))
    audio = [
        piece.audio for piece in synthesizer.stream_many([resumed, *SONGS[1:3]], TWO_STEPS, batch=3) if piece.key == 0
    ]
    assert np.concatenate(audio).tobytes() == np.concatenate(whole).tobytes()
