"""The token model: what it hears, how it is masked, and what is drawn from it."""

import numpy as np
import pytest
import torch
from songs_for_composing import song_bytes

from specdiff_cli.composing.composer import Wish, compose, new_draft
from specdiff_cli.composing.generation import Manner, possible_pitches
from specdiff_cli.composing.jobs import Order, manner_of
from specdiff_cli.composing.network import MASKABLE, Notes, Past, TokensConfig, TokensNetwork
from specdiff_cli.composing.sampling import Taste, choose
from specdiff_cli.composing.score import LOWER, METRE_NAMES, UPPER, score_of
from specdiff_cli.composing.vocabulary import DURATION, ONSET, PART, PITCH, SIZES, VELOCITY
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.train.composer_masking import collate, hide_all, mask_excerpt, plain_excerpt, rhythm_losses

WISH = Wish(METRE_NAMES.index("3/4"), 0, 4, 3)


@pytest.fixture(scope="module")
def network() -> TokensNetwork:
    made = TokensNetwork(TokensConfig(d_model=32, n_heads=2, n_layers=2, d_ff=64))
    made.initialise(0)
    return made.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def notes() -> Notes:
    excerpt = plain_excerpt(score_of(parse_midi(song_bytes(0), "song.mid")).part_of(slice(64)), 0, 5)
    return collate([excerpt], [excerpt.fields])


def test_rhythm_hears_earlier_notes_alone(network: TokensNetwork, notes: Notes) -> None:
    changed = notes.fields.clone()
    changed[:, 20:, PITCH] = 5
    changed[:, 20:, ONSET] = 30
    other = Notes(changed, notes.times.clone(), notes.left, notes.begins, notes.conditions)
    other.times[:, 20:] += 7
    difference = (network.rhythm(notes) - network.rhythm(other)).abs().amax(dim=(0, 2))
    assert difference[:21].max() < 1e-5  # note 20 is foretold before it is known
    assert difference[21] > 1e-4


def test_masked_fields_hear_both_sides(network: TokensNetwork, notes: Notes) -> None:
    changed = notes.fields.clone()
    changed[:, 40, PITCH] = 5
    other = Notes(changed, notes.times, notes.left, notes.begins, notes.conditions)
    difference = (network.masked(notes)[1] - network.masked(other)[1]).abs().amax(dim=(0, 2))
    assert difference[10] > 1e-7
    assert difference[60] > 1e-7


def test_kept_keys_and_values_change_nothing(network: TokensNetwork, notes: Notes) -> None:
    whole = network.rhythm(notes)
    past = [Past() for _ in network.blocks]
    head = Notes(notes.fields[:, :10], notes.times[:, :10], notes.left[:, :10], notes.begins[:, :10], notes.conditions)
    parts = [network.rhythm(head, past)]
    for index in range(10, 64):
        one = Notes(
            notes.fields[:, index - 1 : index + 1],
            notes.times[:, index - 1 : index + 1],
            notes.left[:, index : index + 1],
            notes.begins[:, index : index + 1],
            notes.conditions,
        )
        parts.append(network.rhythm(one, past, index))
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-4


def test_first_losses_are_those_of_a_guess(network: TokensNetwork, notes: Notes) -> None:
    losses = rhythm_losses(network, notes)
    assert float(losses["onset"]) == pytest.approx(np.log(SIZES[ONSET]), abs=0.5)
    assert float(losses["part"]) == pytest.approx(np.log(SIZES[PART]), abs=0.3)


def test_masks_hide_what_is_asked_for_and_change_nothing_else() -> None:
    fields = plain_excerpt(score_of(parse_midi(song_bytes(0), "song.mid")), 0, 0).fields
    shares = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        masked, asked = mask_excerpt(fields, PITCH, rng)
        assert asked.any()
        assert (masked[asked, PITCH] == SIZES[PITCH]).all()
        assert (masked[~asked, PITCH] == fields[~asked, PITCH]).all()
        assert (masked[:, [ONSET, PART]] == fields[:, [ONSET, PART]]).all()
        for field in (DURATION, VELOCITY):
            assert (masked[:, field] == SIZES[field])[masked[:, field] != fields[:, field]].all()
        shares.append(asked.mean())
    assert 0.2 < np.mean(shares) < 0.5  # half of what is not given


def test_hide_all_keeps_rhythm_and_what_is_known() -> None:
    fields = np.arange(15).reshape(3, 5) % 3
    hidden = hide_all(fields, 1)
    assert hidden[0].tolist() == fields[0].tolist()
    assert hidden[1:, :2].tolist() == fields[1:, :2].tolist()
    assert hidden[1:, 2:].tolist() == [[SIZES[field] for field in MASKABLE]] * 2


def test_drawing_follows_the_probabilities() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(1, 20_000, 4)
    ids, sureness = choose(logits, Taste(1.0, 1.0), [np.random.default_rng(0)])
    assert np.bincount(ids[0].numpy(), minlength=4) / 20_000 == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)
    assert float(sureness[0][ids[0] == 0][0]) == pytest.approx(np.log(0.5))
    ids, _ = choose(logits, Taste(1.0, 0.7), [np.random.default_rng(0)])
    assert set(ids.flatten().tolist()) == {0, 1}
    ids, _ = choose(logits, Taste(0.5, 1.0), [np.random.default_rng(0)])
    squares = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    assert np.bincount(ids[0].numpy(), minlength=4) / 20_000 == pytest.approx(squares / squares.sum(), abs=0.015)


def test_chords_rise_without_unisons_in_a_part() -> None:
    draft = new_draft(np.zeros((1, 4, 5), dtype=np.int64), 4, [WISH])
    draft.times[:] = torch.tensor([0, 0, 0, 12])
    draft.fields[0, :, PART] = torch.tensor([LOWER, LOWER, UPPER, UPPER])
    draft.fields[0, :, PITCH] = torch.tensor([SIZES[PITCH], 40, SIZES[PITCH], SIZES[PITCH]])
    allowed = possible_pitches(draft)[0]
    assert allowed[0].nonzero().flatten().tolist() == list(range(40))
    assert allowed[2].nonzero().flatten().tolist() == list(range(40, SIZES[PITCH]))
    assert allowed[3].all()


@pytest.mark.parametrize("n_notes", [2, 40, 150])
def test_pieces_have_as_many_notes_as_asked_for(network: TokensNetwork, n_notes: int) -> None:
    rngs = [np.random.default_rng([3, index]) for index in range(2)]
    done: list[int] = []
    for score in compose(network, [WISH, WISH], n_notes, rngs, Manner(n_steps=8), done.append):
        assert len(score) == n_notes
        assert (np.diff(score.onset) >= 0).all()
        assert score.position.max() < 36
        keys = set(zip(score.onset.tolist(), score.part.tolist(), score.pitch.tolist(), strict=True))
        assert len(keys) == n_notes
    assert sum(done) == 8 * (1 if n_notes <= 128 else 2)


def test_a_piece_is_a_function_of_its_own_generator(network: TokensNetwork) -> None:
    def made(indices: list[int]) -> list[list[int]]:
        rngs = [np.random.default_rng([5, index]) for index in indices]
        return [s.pitch.tolist() for s in compose(network, [WISH] * len(indices), 24, rngs, Manner(n_steps=6))]

    assert made([0, 1])[1] == made([1])[0]
    assert made([0])[0] != made([1])[0]


@pytest.mark.parametrize(("is_faster", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_the_precision_is_what_is_seen_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, is_faster: bool, dtype: str
) -> None:
    monkeypatch.setattr("specdiff_cli.model.precision.is_faster_in_bfloat16", lambda: is_faster)
    assert manner_of(Order()).dtype == dtype
    assert manner_of(Order(dtype="float32")).dtype == "float32"
