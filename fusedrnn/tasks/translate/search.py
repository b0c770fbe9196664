"""Search: the translation to which a model gives the highest probability, or nearly so.

Greedy search takes the likeliest token at each step. Beam search keeps the ``width`` likeliest
beginnings; a translation that ends among them is set aside, and the best of those wins by

    log P(Y | X) / ((5 + |Y|) / 6) ** penalty

(Wu et al., arXiv:1609.08144, equation 14), where ``|Y|`` counts the tokens and the end mark.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn.tasks.translate.model import EncoderDecoder, select


@dataclass(frozen=True)
class Marks:
    """The tokens with a meaning of their own: the start and the end, and those never written."""

    start: int
    end: int
    banned: Collection[int] = ()


@dataclass(frozen=True)
class Hypothesis:
    """A translation that a search found.

    Attributes:
        tokens: without start and end marks.
        log_probability: of the tokens and, if ``ended``, the end mark (nats).
        score: what the search ranks by; see above.
        ended: whether the end mark was written before the length ran out.
    """

    tokens: list[int]
    log_probability: float
    score: float
    ended: bool


class _Decoding:
    """Sentences being translated, one row each (or several): tokens in, log-probabilities out."""

    def __init__(
        self, model: EncoderDecoder, source: Tensor, lengths: Tensor, marks: Marks
    ) -> None:
        self._model = model
        self._memory, self._state = model.encode(source, lengths)
        self._banned = sorted({marks.start, *marks.banned})

    def advance(self, tokens: Tensor) -> Tensor:
        """Reads tokens ``[N]``; log-probabilities ``[N, V]`` of what follows, float64.

        They are the model's own: a banned token has -inf, and the others are not scaled up.
        """
        outputs, self._state = self._model.advance(tokens, self._state, self._memory)
        log_probabilities: Tensor = self._model.head(outputs).double().log_softmax(-1)
        log_probabilities[:, self._banned] = -math.inf
        return log_probabilities

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows ``[N]`` in this order."""
        self._state = select(self._state, rows)
        self._memory = self._memory.select(rows)


@torch.no_grad()
def greedy(
    model: EncoderDecoder, source: Tensor, lengths: Tensor, marks: Marks, max_length: int
) -> list[Hypothesis]:
    """The likeliest token at each step.

    Args:
        model: in eval mode.
        source, lengths: int64 ``[S, B]`` and ``[B]``.
        max_length: the most tokens of a translation, end mark included.

    Returns:
        One hypothesis per sentence; its score is its log-probability.
    """
    decoding = _Decoding(model, source, lengths, marks)
    batch = len(lengths)
    tokens = torch.full((batch,), marks.start, device=source.device)
    total = torch.zeros(batch, dtype=torch.float64, device=source.device)
    ended = torch.zeros(batch, dtype=torch.bool, device=source.device)
    written = []
    for _ in range(max_length):
        best, tokens = decoding.advance(tokens).max(-1)
        total += best.masked_fill(ended, 0.0)
        written.append(tokens.masked_fill(ended, marks.end))
        ended |= tokens == marks.end
        if bool(ended.all()):
            break
    rows = torch.stack(written, 1).tolist()
    return [
        Hypothesis(_until(row, marks.end), value, value, end)
        for row, value, end in zip(rows, total.tolist(), ended.tolist(), strict=True)
    ]


def length_penalty(length: int, penalty: float) -> float:
    """What a log-probability is divided by: ``((5 + length) / 6) ** penalty``; 1 for penalty 0."""
    return float(((5.0 + length) / 6.0) ** penalty)


@torch.no_grad()
def beam_search(
    model: EncoderDecoder,
    source: Tensor,
    lengths: Tensor,
    marks: Marks,
    max_length: int,
    *,
    width: int = 5,
    penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """The best of the ``width`` likeliest beginnings.

    At each step the continuations of a sentence's beginnings are ranked together by probability.
    Those among the first ``width`` that end are set aside; the first ``width`` that do not end go
    on. A sentence is done when it has set ``width`` aside; at ``max_length`` what has not ended
    counts as it is. Width 1 is greedy search; a width of the number of all beginnings finds the
    best translation there is.

    Args:
        model, source, lengths, max_length: as for `greedy`.
        width: at least 1.
        penalty: 0 ranks by probability alone, which favours short translations.

    Returns:
        For each sentence its hypotheses, at most ``width``, best first.

    Raises:
        ValueError: a width or max_length below 1, or a penalty that is not finite or negative.
    """
    if width < 1 or max_length < 1:
        raise ValueError(
            f"expected a width and max_length of at least 1, got {width} and {max_length}"
        )
    if not (math.isfinite(penalty) and penalty >= 0.0):
        raise ValueError(f"penalty: expected a finite number of 0 or more, got {penalty}")
    beams = _Beams(len(lengths), width, marks, source.device)
    decoding = _Decoding(model, source, lengths, marks)
    decoding.select(beams.rows_of_sentences())
    for length in range(1, max_length + 1):
        log_probabilities = decoding.advance(beams.last_tokens())
        rows = beams.extend(log_probabilities, length_penalty(length, penalty))
        if beams.done():
            break
        decoding.select(rows)
    else:
        beams.give_up(length_penalty(max_length, penalty))
    return beams.best()


class _Beams:
    """The beginnings of B sentences, K each, and what they set aside.

    ``scores [B, K]`` are log-probabilities, ``tokens`` a list of ``[B, K]``, one per step.
    """

    def __init__(self, batch: int, width: int, marks: Marks, device: torch.device) -> None:
        self._width, self._marks = width, marks
        self._first_row = torch.arange(batch, device=device).unsqueeze(1) * width
        # All beginnings are the same at first: one of each sentence counts, the others cannot win.
        self._scores = torch.full((batch, width), -math.inf, dtype=torch.float64, device=device)
        self._scores[:, 0] = 0.0
        self._tokens = torch.full((batch, width, 1), marks.start, device=device)
        self._aside: list[list[Hypothesis]] = [[] for _ in range(batch)]

    def rows_of_sentences(self) -> Tensor:
        """Which sentence each of the B K rows belongs to."""
        return (self._first_row // self._width).expand(-1, self._width).flatten()

    def last_tokens(self) -> Tensor:
        return self._tokens[:, :, -1].flatten()

    def extend(self, log_probabilities: Tensor, divisor: float) -> Tensor:
        """Takes the likeliest continuations ``[B K, V]``; the rows ``[B K]`` that they continue."""
        vocab = log_probabilities.shape[1]
        totals = self._scores.unsqueeze(2) + log_probabilities.view(-1, self._width, vocab)
        # At most K of the first 2 K end, one per beginning, so at least K of them go on.
        values, places = totals.flatten(1).topk(2 * self._width, -1)
        beginnings, tokens = places // vocab, places % vocab
        ends = tokens == self._marks.end
        self._set_aside(values, beginnings, ends, divisor)
        # The first K that go on, in order: a stable sort puts them before those that end.
        order = ends.to(torch.int8).sort(dim=-1, stable=True).indices[:, : self._width]
        self._scores = values.masked_fill(ends, -math.inf).gather(1, order)
        beginnings, tokens = beginnings.gather(1, order), tokens.gather(1, order)
        steps = self._tokens.shape[2]
        history = self._tokens.gather(1, beginnings.unsqueeze(2).expand(-1, -1, steps))
        self._tokens = torch.cat([history, tokens.unsqueeze(2)], 2)
        return (self._first_row + beginnings).flatten()

    def _set_aside(self, values: Tensor, beginnings: Tensor, ends: Tensor, divisor: float) -> None:
        first = ends[:, : self._width] & (values[:, : self._width] > -math.inf)
        for sentence, place in first.nonzero().tolist():
            aside = self._aside[sentence]
            if len(aside) < self._width:
                value = values[sentence, place].item()
                tokens = self._tokens[sentence, beginnings[sentence, place], 1:].tolist()
                aside.append(Hypothesis(tokens, value, value / divisor, True))

    def done(self) -> bool:
        """Whether every sentence has set aside as many as it may, or can go on no further."""
        stuck = (self._scores == -math.inf).all(1).tolist()
        full = (len(aside) == self._width for aside in self._aside)
        return all(a or b for a, b in zip(full, stuck, strict=True))

    def give_up(self, divisor: float) -> None:
        """Sets aside what has not ended, as it is."""
        for sentence, aside in enumerate(self._aside):
            if len(aside) == self._width:
                continue
            for tokens, value in zip(
                self._tokens[sentence, :, 1:].tolist(), self._scores[sentence].tolist(), strict=True
            ):
                if value > -math.inf:
                    aside.append(Hypothesis(tokens, value, value / divisor, False))

    def best(self) -> list[list[Hypothesis]]:
        return [
            sorted(aside, key=lambda one: one.score, reverse=True)[: self._width]
            for aside in self._aside
        ]


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
