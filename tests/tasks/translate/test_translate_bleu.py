"""BLEU-k against values worked out by hand, corpus BLEU against its own definition."""

from __future__ import annotations

import math
import sys
from collections import Counter

import pytest

from fusedrnn.tasks.translate.bleu import BleuUnavailableError, bleu_k, corpus_bleu


@pytest.mark.parametrize(
    ("predicted", "label", "k", "expected"),
    [
        ("va !", "va !", 2, 1.0),
        ("a b c d", "a b c d e f", 2, math.exp(1 - 6 / 4)),
        # p1 = 3/4 ("a" counts twice, as in the label), p2 = 1/3: only "a b" occurs there.
        ("a a a b", "a b a c", 2, (3 / 4) ** 0.5 * (1 / 3) ** 0.25),
        ("a b c d", "b a d c", 1, 1.0),
        ("a b c d", "b a d c", 2, 0.0),
        ("", "a", 2, 0.0),
        ("a", "a", 2, 1.0),
        ("x y z a b c", "a b c", 2, (3 / 6) ** 0.5 * (2 / 5) ** 0.25),
    ],
)
def test_bleu_k_by_hand(predicted, label, k, expected):
    assert bleu_k(predicted, label, k) == pytest.approx(expected)


def test_bleu_k_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="k: expected"):
        bleu_k("a", "a", 0)
    with pytest.raises(ValueError, match="label"):
        bleu_k("a", " ", 2)


def _plain_bleu(predicted, references):
    """Papineni et al. 2002 over words, without smoothing."""
    matches, totals, ours, theirs = [0] * 4, [0] * 4, 0, 0
    for sentence, labels in zip(predicted, references, strict=True):
        words = sentence.split()
        ours += len(words)
        theirs += min((abs(len(r.split()) - len(words)), len(r.split())) for r in labels)[1]
        for n in range(1, 5):

            def grams(text, n=n):
                return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

            most = Counter()
            for label in labels:
                most |= grams(label.split())
            matches[n - 1] += (grams(words) & most).total()
            totals[n - 1] += max(0, len(words) - n + 1)
    logs = [math.log(m / t) for m, t in zip(matches, totals, strict=True)]
    return 100 * math.exp(min(0, 1 - theirs / ours) + sum(logs) / 4)


def test_corpus_bleu_is_papineni_s():
    pytest.importorskip("sacrebleu")
    predicted = ["the cat sat on the red mat", "he went home early that day", "a b c d e"]
    references = [
        ["the cat sat on the mat", "a cat sat on the red mat there"],
        ["he went home early", "he went back home early that day"],
        ["a b c d f"],
    ]
    expected = _plain_bleu(predicted, references)
    assert corpus_bleu(predicted, references) == pytest.approx(expected)
    assert corpus_bleu(["a b c d ."], [["x", "a b c d ."]]) == pytest.approx(100)


def test_corpus_bleu_refuses_gaps():
    for predicted, references in ([], []), (["a"], []), (["a"], [[]]):
        with pytest.raises(ValueError, match="expected at least one prediction"):
            corpus_bleu(predicted, references)


def test_without_sacrebleu_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(BleuUnavailableError, match=r"pip install 'fusedrnn\[translate\]'"):
        corpus_bleu(["a"], [["a"]])
