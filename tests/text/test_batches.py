"""The two iterators: every promise of the module's first lines, over many sizes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fusedrnn.text import TextError, Windows, make_loader, make_order
from fusedrnn.text.batches import ORDERS, RandomSampling, SequentialPartition

both = pytest.mark.parametrize("order", ORDERS)


@st.composite
def sizes(draw):
    batch, steps = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    return batch * steps + 1 + draw(st.integers(0, 100)), batch, steps


@both
def test_0_to_34_by_2_and_5_gives_3_batches_every_epoch(order):
    loader = make_loader(torch.arange(35), batch=2, steps=5, order=order)
    for _ in range(30):
        assert len(loader) == 3
        batches = list(loader)
        assert len(batches) == 3
        for inputs, labels in batches:
            assert inputs.shape == labels.shape == (5, 2)
            assert inputs.dtype == labels.dtype == torch.int64
            assert torch.equal(labels, inputs + 1)
            assert torch.equal(inputs[1:], inputs[:-1] + 1)


def test_sequential_batches_are_adjacent():
    loader = make_loader(torch.arange(35), batch=2, steps=5, order="sequential")
    for _ in range(10):
        batches = [inputs for inputs, _ in loader]
        for before, after in itertools.pairwise(batches):
            assert torch.equal(after[0], before[-1] + 1)


def test_random_batches_are_shuffled():
    loader = make_loader(torch.arange(2000), batch=2, steps=5, order="random")
    firsts = torch.cat([inputs[0] for inputs, _ in loader])
    assert not torch.equal(firsts, firsts.sort()[0])


@both
def test_the_offset_is_drawn_anew_and_takes_every_value(order):
    sampler = make_order(order, 1000, batch=4, steps=5)
    offsets = {int(sampler.starts(epoch).min()) % 5 for epoch in range(200)}
    assert offsets == {0, 1, 2, 3, 4}


@given(sizes(), st.integers(0, 5))
def test_random_sampling_uses_every_subsequence_that_fits(size, epoch):
    tokens, batch, steps = size
    sampler = RandomSampling(tokens, batch, steps)
    starts = sampler.starts(epoch)
    used = starts.flatten().tolist()
    offset = min(used) % steps
    fitting = [s for s in range(offset, tokens, steps) if s + steps < tokens]
    assert set(used) <= set(fitting)
    assert len(used) == len(set(used)) == len(fitting) // batch * batch
    assert starts.shape == (sampler.batches(epoch), batch)


@given(sizes(), st.integers(0, 5))
def test_sequential_partition_gives_equal_streams_end_to_end(size, epoch):
    tokens, batch, steps = size
    sampler = SequentialPartition(tokens, batch, steps)
    starts = sampler.starts(epoch)
    offset = int(starts[0, 0])
    stream = (tokens - 1 - offset) // batch
    assert 0 <= offset < steps
    assert starts.shape == (stream // steps, batch) == (sampler.batches(epoch), batch)
    assert len(starts) > 0
    for row in range(batch):
        walk = range(offset + row * stream, offset + (row + 1) * stream - steps + 1, steps)
        assert starts[:, row].tolist() == list(walk)
    assert int(starts.max()) + steps < tokens


@both
def test_one_batch_of_the_smallest_text(order):
    ((inputs, labels),) = make_loader(torch.arange(7), batch=2, steps=3, order=order)
    assert sorted(inputs.flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    assert sorted(labels.flatten().tolist()) == [1, 2, 3, 4, 5, 6]


# Python from 3.12 on warns of any fork beside threads; how workers start is torch's affair.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@both
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(order, workers):
    ids = torch.randint(50, (500,), generator=torch.Generator().manual_seed(1))
    alone = make_loader(ids, batch=3, steps=4, order=order, seed=7)
    helped = make_loader(ids, 3, 4, order, 7, num_workers=workers, persistent_workers=True)
    for _ in range(2):
        expected, got = list(alone), list(helped)
        assert len(expected) == len(got) > 5
        for (inputs, labels), (same, after) in zip(expected, got, strict=True):
            assert torch.equal(inputs, same)
            assert torch.equal(labels, after)


@both
def test_seed_and_epoch_decide_and_nothing_else_does(order):
    first, second = (make_order(order, 900, 4, 5, seed=3) for _ in range(2))
    torch.manual_seed(0)
    one = [torch.stack(list(first)) for _ in range(4)]
    torch.manual_seed(1)
    two = [torch.stack(list(second)) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert any(not torch.equal(one[0], later) for later in one[1:])
    second.epoch = 2
    assert torch.equal(torch.stack(list(second)), one[2])
    assert any(
        not torch.equal(make_order(order, 900, 4, 5, seed=4).starts(e), one[e]) for e in range(4)
    )


@given(sizes(), st.sampled_from(sorted(ORDERS)))
def test_length_is_that_of_the_coming_epoch(size, order):
    sampler = make_order(order, *size)
    for _ in range(4):
        expected = len(sampler)
        assert len(list(sampler)) == expected


def test_windows_by_position():
    windows = Windows(torch.arange(10, 20), steps=3)
    assert len(windows) == 7
    inputs, labels = windows[6]
    assert inputs.tolist() == [16, 17, 18]
    assert labels.tolist() == [17, 18, 19]
    inputs, labels = windows[[0, 5]]
    assert inputs.tolist() == [[10, 15], [11, 16], [12, 17]]
    assert torch.equal(labels, inputs + 1)


def test_windows_with_torchs_own_batching():
    loader = DataLoader(Windows(torch.arange(9), steps=2), batch_size=4)
    inputs, labels = next(iter(loader))
    assert inputs.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]  # batch first, as collated by torch
    assert torch.equal(labels, inputs + 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_windows_over_smaller_integers_still_give_int64(dtype):
    inputs, labels = Windows(torch.arange(9).to(dtype), steps=2)[[3]]
    assert inputs.dtype == labels.dtype == torch.int64
    assert inputs.flatten().tolist() == [3, 4]


@pytest.mark.parametrize(("dtype", "high"), [(torch.uint16, 65_530), (torch.uint32, 2**32 - 10)])
def test_windows_over_unsigned_integers_keep_the_high_half(dtype, high):
    windows = Windows(torch.arange(high - 3, high + 6).to(dtype), steps=2)
    assert windows[[3]][0].flatten().tolist() == [high, high + 1]
    assert windows[6][1].tolist() == [high + 4, high + 5]
    with pytest.raises(IndexError):
        windows[[-1]]


@pytest.mark.parametrize("start", [-1, 7, [-1], [0, 7], torch.tensor([7])])
def test_windows_out_of_range(start):
    with pytest.raises(IndexError):
        Windows(torch.arange(10), steps=3)[start]


@both
@pytest.mark.parametrize(
    ("tokens", "batch", "steps", "message"),
    [
        (10, 2, 5, r"expected at least 11 tokens .batch 2 x steps 5.*, got 10"),
        (0, 1, 1, "expected at least 2 tokens .*, got 0"),
        (10, 0, 5, "batch and steps of at least 1, got 0 and 5"),
        (10, 2, -1, "batch and steps of at least 1, got 2 and -1"),
    ],
)
def test_texts_that_do_not_fill_a_batch(order, tokens, batch, steps, message):
    with pytest.raises(TextError, match=message):
        make_order(order, tokens, batch, steps)


def test_bad_arguments():
    with pytest.raises(TextError, match="expected one of sequential, random, got 'sorted'"):
        make_order("sorted", 100, 2, 5)
    with pytest.raises(TextError, match=r"integers in one dimension, got torch.float32"):
        Windows(torch.zeros(10), 2)
    with pytest.raises(TextError, match=r"integers in one dimension, got torch.int64 \[2, 5\]"):
        Windows(torch.zeros(2, 5, dtype=torch.int64), 2)
    with pytest.raises(TextError, match="at least 5 tokens"):
        Windows(torch.arange(4), 4)
