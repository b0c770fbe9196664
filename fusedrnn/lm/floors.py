"""What counting alone reaches on a text: the figures that a trained model's are shown beside."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from fusedrnn.lm.metrics import perplexity
from fusedrnn.lm.ngram import Array, KneserNey, Laplace, NGrams, as_indices
from fusedrnn.text.encode_pass import Sizes
from fusedrnn.text.errors import TextError

MOST_TOKENS = 2_000_000
LONGEST = 12
_HELD_OUT = 0.1


def choose_order(ids: Tensor | Array, vocab: int, longest: int = LONGEST) -> int:
    """The order of the Kneser-Ney model that does best on the last tenth of a text when it is
    counted on the rest; orders are tried from 1 up, as long as they gain.

    Raises:
        TextError: fewer than 3 tokens.
    """
    text = as_indices(ids, vocab)
    kept = len(text) - max(2, int(len(text) * _HELD_OUT))
    if kept < 1:
        raise TextError(f"expected at least 3 tokens to choose an order on, got {len(text)}")
    grams, best = NGrams(text[:kept], 0, vocab), math.inf
    for order in range(1, min(longest, kept) + 1):
        grams.grow()
        loss = KneserNey(text[:kept], order, vocab, grams).loss(text[kept:])
        if loss >= best:
            return order - 1
        best = loss
    return order


def floors(
    train: Tensor, valid: Tensor | None, vocab: int, longest: int = LONGEST
) -> dict[str, float]:
    """Losses in nats per token of models that only count, by their names, the best one last.

    Unigram, bigram and trigram with Laplace smoothing, and interpolated modified Kneser-Ney smoothing
    of the order that `choose_order` finds on the training text.

    Args:
        train: integer ``[tokens]``; of more than `MOST_TOKENS`, the last ones are counted.
        valid: integer ``[tokens]``, what the losses are of; of more than a tenth of `MOST_TOKENS`,
            the first ones. With fewer than two tokens (or None) the last tenth of ``train`` serves,
            and is not counted.
        vocab: number of entries.

    Raises:
        TextError: fewer than 4 tokens, or an index out of range.
    """
    counted = as_indices(train[-MOST_TOKENS:], vocab)
    if valid is not None and len(valid) > 1:
        judged = as_indices(valid[: MOST_TOKENS // 10], vocab)
    else:
        cut = len(counted) - max(2, int(len(counted) * _HELD_OUT))
        counted, judged = counted[: max(cut, 0)], counted[max(cut, 0) :]
    if len(counted) < 3:
        raise TextError(
            f"expected at least 3 tokens to count besides those held out, got {len(counted)}"
        )
    order = choose_order(counted, vocab, longest)
    grams = NGrams(counted, max(order, 3), vocab)
    losses = {
        name: Laplace(counted, n, vocab, grams=grams).loss(judged)
        for n, name in enumerate(("unigram", "bigram", "trigram"), 1)
    }
    best = KneserNey(counted, order, vocab, grams).loss(judged)
    return losses | {f"Kneser-Ney, order {order}": best}


def per_text(loss: float, sizes: Sizes) -> dict[str, float]:
    """A loss in nats per token in the units of the literature.

    Args:
        sizes: of the text that the loss is of.

    Returns:
        ``perplexity`` per token and, where the text has any and no token of it was left out,
        ``bits_per_character`` and ``bits_per_word``.
    """
    sizes = sizes.kept
    bits = loss / math.log(2) * sizes.tokens
    units = {"bits_per_character": sizes.characters, "bits_per_word": sizes.words}
    return {
        "perplexity": perplexity(loss),
        **{name: bits / count for name, count in units.items() if count},
    }


def describe(losses: Mapping[str, float], sizes: Sizes) -> str:
    """A table of `floors` for people."""
    rows = []
    for name, loss in losses.items():
        values = per_text(loss, sizes)
        shown = [f"{values['perplexity']:13,.2f}"]
        shown += [
            f"{values[key]:11.3f}" if key in values else f"{'-':>11}"
            for key in ("bits_per_character", "bits_per_word")
        ]
        rows.append(f"  {name:22}{loss:9.4f}{''.join(shown)}")
    head = f"  {'':22}{'nats':>9}{'perplexity':>13}{'bits/char':>11}{'bits/word':>11}"
    return "\n".join([head, *rows])
