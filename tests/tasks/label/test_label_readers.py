"""Readers: encoding, batches, descriptions, chance in training."""

from __future__ import annotations

import json

import pytest
import torch

from fusedrnn.tasks.label import LabelError
from fusedrnn.tasks.label.batches import (
    PADDING,
    epoch_generator,
    epoch_order,
    pad_targets,
    sorted_order,
)
from fusedrnn.tasks.label.readers import NumberReader, TextReader, WordReader, from_description

SENTENCES = [("The", "cat", "sat"), ("the", "CAT"), ("a" * 30,)]


def test_texts_become_indices():
    reader = TextReader.learn(["a b a", "b a c"], "word", min_freq=2)
    assert reader.encode("b a z c").tolist() == [2, 1, 0, 0]
    padded = reader.batch([reader.encode("a"), reader.encode("b b b")])
    assert padded.tolist() == [[1, 2], [0, 2], [0, 2]]
    letters = TextReader.learn(["A-b!"], "char", "letters")
    assert len(letters.encode("A-b!")) == 3
    with pytest.raises(LabelError, match="expected a text with characters in it, got none"):
        letters.encode("123")


def test_numbers_are_scaled_by_the_training_part():
    reader = NumberReader.learn(["1 2", "3"])
    assert reader.mean == pytest.approx(2.0)
    assert reader.spread == pytest.approx((2 / 3) ** 0.5)
    both = torch.cat([reader.encode("1 2"), reader.encode("3")])
    assert both.shape == (3, 1)
    assert both.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert both.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    assert NumberReader.learn(["5 5"]).spread == 1.0
    assert reader.batch([reader.encode("1"), reader.encode("1 2")]).shape == (2, 2, 1)


@pytest.mark.parametrize("text", ["", "1 two", "1 nan", "inf", "1,5"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(LabelError, match=r"expected (finite )?numbers, got"):
        NumberReader(0.0, 1.0).encode(text)


def test_words_are_spelt_once_each():
    reader = WordReader.learn(SENTENCES)
    batch = reader.batch([reader.encode(each) for each in SENTENCES])
    assert batch.ids.shape == batch.places.shape == (3, 3)
    assert batch.ids[0, 0] == batch.ids[0, 1] != 0  # The, the
    spelt = []
    for place, length in zip(batch.places.t().flatten(), [9] * 9, strict=True):
        chars = batch.chars[: batch.lengths[place], place][:length]
        spelt.append("".join(reader.chars.decode(chars)))
    assert spelt[:5] == ["The", "cat", "sat", "the", "CAT"]
    assert batch.chars.shape[1] == 6
    assert batch.lengths.tolist() == [3, 3, 3, 3, 3, 24]
    unknown = reader.batch([("dog", "ö")])
    assert unknown.ids.flatten().tolist() == [0, 0]
    assert unknown.chars[0, 1] == 0
    with pytest.raises(LabelError, match="expected a sentence with words, got none"):
        reader.encode(())


def test_long_words_keep_both_ends():
    reader = WordReader.learn([("abcdefghijklmnopqrstuvwxyz0123456789",)])
    batch = reader.batch([("abcdefghijklmnopqrstuvwxyz0123456789",)])
    assert "".join(reader.chars.decode(batch.chars[:, 0])) == "abcdefghijkl" + "yz0123456789"


def test_words_of_training_are_unknown_now_and_then():
    reader = WordReader.learn([("a",) * 99 + ("b",)])
    items = [("a", "b")] * 4000
    plain = reader.batch(items)
    assert (plain.ids == 0).sum() == 0
    drawn = reader.batch(items, torch.Generator().manual_seed(0)).ids
    rates = (drawn == 0).double().mean(1).tolist()
    assert rates == pytest.approx([0.25 / 99.25, 0.25 / 1.25], abs=0.02)
    again = reader.batch(items, torch.Generator().manual_seed(0)).ids
    assert torch.equal(drawn, again)


def test_descriptions_survive_json():
    for reader, text in (
        (TextReader.learn(["a b"], "word"), "b c"),
        (TextReader.learn(["a b"], "char", "letters"), "b a"),
        (NumberReader(2.0, 3.0), "4 5"),
        (WordReader.learn(SENTENCES), ("cat", "The")),
    ):
        again = from_description(json.loads(json.dumps(reader.describe())))
        one, two = (each.batch([each.encode(text)]) for each in (reader, again))
        pairs = zip(one, two, strict=True) if isinstance(one, tuple) else [(one, two)]
        assert all(torch.equal(left, right) for left, right in pairs)
    for broken in ({}, {"kind": "image"}, {"kind": "number", "mean": "x", "spread": 1}):
        with pytest.raises(LabelError, match=r"reader|description"):
            from_description(broken)


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (7, 3), (500, 8), (64, 64)])
def test_an_epoch_shows_every_example_once(count, batch):
    lengths = torch.randint(1, 50, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    order = epoch_order(lengths, batch, seed=1, epoch=2)
    assert sorted(i for rows in order for i in rows) == list(range(count))
    assert len(order) == -(-count // batch)
    assert max(map(len, order)) <= batch
    assert order == epoch_order(lengths, batch, seed=1, epoch=2)
    assert sorted(i for rows in sorted_order(lengths, batch) for i in rows) == list(range(count))
    if count > batch:
        assert order != epoch_order(lengths, batch, seed=1, epoch=3)
        assert order != epoch_order(lengths, batch, seed=2, epoch=2)


def test_batches_hold_little_padding_and_come_in_any_order():
    lengths = torch.randint(1, 100, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    order = epoch_order(lengths, 16, 0, 0)
    padded = sum(max(lengths[i] for i in rows) * len(rows) for rows in order)
    assert padded < 1.1 * sum(lengths)
    firsts = [lengths[rows[0]] for rows in order]
    assert firsts != sorted(firsts)


def test_generators_of_parts_differ():
    draws = {
        torch.rand((), generator=epoch_generator(seed, epoch, part)).item()
        for seed in range(3)
        for epoch in range(3)
        for part in range(3)
    }
    assert len(draws) == 27


def test_padding_of_targets():
    padded = pad_targets([torch.tensor([1, 2]), torch.tensor([3])])
    assert padded.tolist() == [[1, 3], [2, PADDING]]
    assert pad_targets([torch.tensor(1), torch.tensor(0)]).tolist() == [1, 0]
