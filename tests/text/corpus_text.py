"""A text for the tests of corpora, and what makes two corpora the same."""

from __future__ import annotations

LINES = [f"line {n}: the {['cat', 'dog', 'Élan', 'a b'][n % 4]} and {n * n}\n" for n in range(400)]
TEXT = "".join(LINES)


def same(one, other):
    assert one.vocab == other.vocab
    assert one.tokenizer == other.tokenizer
    assert one.train.tolist() == other.train.tolist()
    assert one.valid.tolist() == other.valid.tolist()
