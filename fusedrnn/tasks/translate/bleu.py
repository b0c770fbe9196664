"""BLEU: how near translations come to those of people.

The measure of the field is corpus BLEU (Papineni et al. 2002), computed here by sacrebleu so that
its figures can be compared with others'. `bleu_k` is the textbook's measure of a single sentence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fusedrnn.errors import UserError


class BleuUnavailableError(UserError, RuntimeError):
    """sacrebleu is not installed."""


def bleu_k(predicted: str, label: str, k: int = 2) -> float:
    """The textbook's BLEU of a sentence, tokens apart by spaces, in ``[0, 1]``.

    ``exp(min(0, 1 - len(label) / len(predicted))) * prod over n <= k of p_n ** (1 / 2**n)``, where
    ``p_n`` is the share of the predicted n-grams that the label has, none counted more often than
    it occurs there (Zhang et al., *Dive into Deep Learning*, section 10.7). Predictions shorter than
    ``k`` are judged by the n-grams that they have; an empty one scores 0.

    Raises:
        ValueError: k below 1, or an empty label.
    """
    if k < 1:
        raise ValueError(f"k: expected a whole number of at least 1, got {k}")
    ours, theirs = predicted.split(), label.split()
    if not theirs:
        raise ValueError("label: expected a sentence, got an empty one")
    if not ours:
        return 0.0
    score = math.exp(min(0.0, 1.0 - len(theirs) / len(ours)))
    for n in range(1, min(k, len(ours)) + 1):
        matches = (_ngrams(ours, n) & _ngrams(theirs, n)).total()
        score *= (matches / (len(ours) - n + 1)) ** (0.5**n)
    return score


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def corpus_bleu(predicted: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of sacrebleu with its default settings, 0 to 100.

    Args:
        predicted: one translation per source sentence.
        references: for each of them, one or more translations by people.

    Raises:
        BleuUnavailableError: without sacrebleu (``pip install 'fusedrnn[translate]'``).
        ValueError: no sentence, or not as many references as predictions.
    """
    if not predicted or len(predicted) != len(references) or not all(references):
        raise ValueError(
            f"expected at least one prediction and references for each, got {len(predicted)} "
            f"predictions and references for {sum(map(bool, references))}"
        )
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise BleuUnavailableError(
            "no BLEU: it needs sacrebleu (pip install 'fusedrnn[translate]')"
        ) from error
    # sacrebleu wants the i-th references of all sentences together, with gaps where one has fewer.
    most = max(map(len, references))
    columns: Any = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
    # Tokenised text is what we hand over on purpose: `force` silences the warning about it.
    return float(BLEU(force=True).corpus_score(list(predicted), columns).score)
