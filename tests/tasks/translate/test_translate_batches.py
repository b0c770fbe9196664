"""Ragged batches: nothing lost, nothing twice, nothing but padding past a length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusedrnn.tasks.translate.addition import addition_pairs
from fusedrnn.tasks.translate.batches import PairData, pad
from fusedrnn.tasks.translate.codec import END, PADDING, START
from fusedrnn.tasks.translate.forcing import SCHEDULES, truth_at

sentence = st.lists(st.integers(4, 9), max_size=6).map(lambda tokens: [*tokens, END])
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=30)


def _data(some):
    return PairData([s for s, _ in some], [t for _, t in some])


def _rows(batch):
    """The pairs of a batch, read back from its tensors."""
    for b, (s, t) in enumerate(zip(batch.source_lengths, batch.lengths, strict=True)):
        yield batch.source[:s, b].tolist(), batch.labels[:t, b].tolist()


@given(pairs, st.integers(1, 7), st.integers(0, 2), st.integers(0, 3))
def test_an_epoch_holds_every_pair_once(some, size, seed, epoch):
    data = _data(some)
    rows = data.shuffled(size, seed, epoch)
    sizes = [len(each) for each in rows]
    assert len(rows) == -(-len(some) // size)
    assert max(sizes) <= size
    assert sorted(sizes)[1:] == [size] * (len(rows) - 1)
    seen = [pair for each in rows for pair in _rows(data.batch(each))]
    assert sorted(seen) == sorted((list(s), list(t)) for s, t in some)
    again = data.shuffled(size, seed, epoch)
    assert all(torch.equal(a, b) for a, b in zip(rows, again, strict=True))


@given(pairs, st.integers(1, 7))
def test_in_order_too(some, size):
    data = _data(some)
    seen = [pair for rows in data.in_order(size) for pair in _rows(data.batch(rows))]
    assert sorted(seen) == sorted((list(s), list(t)) for s, t in some)


@given(pairs)
def test_a_batch_is_no_longer_than_its_longest_and_padded_behind(some):
    data = _data(some)
    rows = torch.arange(0, len(some), 2)
    batch = data.batch(rows, truth=0.25)
    assert batch.truth == 0.25
    assert len(batch.source) == batch.source_lengths.max()
    assert len(batch.labels) == len(batch.inputs) == batch.lengths.max()
    assert batch.inputs[0].eq(START).all()
    assert torch.equal(batch.inputs[1:], batch.labels[:-1])
    for b in range(len(rows)):
        assert batch.source[batch.source_lengths[b] :, b].eq(PADDING).all()
        assert batch.labels[batch.lengths[b] :, b].eq(PADDING).all()


def test_batches_hold_sentences_of_like_length():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (2000,), generator=generator).tolist()
    data = _data([([5] * n, [6] * n) for n in lengths])
    waste = sum(data.batch(r).labels.eq(PADDING).sum().item() for r in data.shuffled(20, 0, 0))
    assert waste < 0.05 * sum(lengths)


def test_another_epoch_and_another_seed_are_other_orders():
    data = _data([([4 + i % 5, END], [4, END]) for i in range(40)])
    orders = [torch.cat(data.shuffled(4, seed, epoch)) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_padding_nothing():
    padded, lengths = pad([])
    assert padded.shape == (0, 0)
    assert lengths.shape == (0,)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_forcing_falls_from_one_to_its_floor(schedule, floor):
    values = [truth_at(p / 20, floor, schedule) for p in range(21)]
    assert all(floor <= value <= 1.0 for value in values)
    assert values == sorted(values, reverse=True)
    if schedule == "constant":
        assert values == [floor] * 21
        return
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(floor, abs=0.01)


def test_forcing_halfway():
    assert truth_at(0.5, 0.0, "linear") == 0.5
    assert truth_at(0.5, 0.0, "exponential") == pytest.approx(0.1)
    assert truth_at(0.5, 0.0, "sigmoid") == pytest.approx(0.5)
    for bad in [(1.1, 0.0, "linear"), (0.0, -0.1, "linear"), (0.0, 0.0, "cosine")]:
        with pytest.raises(ValueError, match="expected"):
            truth_at(*bad)


def test_sums_are_right_different_and_seeded():
    sums = list(addition_pairs(500, digits=2, seed=1))
    assert len(dict(sums)) == 500
    for question, answer in sums:
        first, second = map(int, question.split("+"))
        assert int(answer) == first + second
        assert max(first, second) < 100
    assert sums == list(addition_pairs(500, digits=2, seed=1))
    assert sums != list(addition_pairs(500, digits=2, seed=2))
    assert len(set(addition_pairs(100, digits=1))) == 100
    for count, digits in [(101, 1), (0, 1), (1, 0)]:
        with pytest.raises(ValueError, match="expected from 1 to"):
            list(addition_pairs(count, digits))
