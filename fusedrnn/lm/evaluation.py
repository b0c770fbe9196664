"""How well a language model predicts a text, with its state carried along."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fusedrnn.lm.model import State, labelled
from fusedrnn.text.batches import document_resets, gather
from fusedrnn.text.errors import TextError

_PADDING = -100


@torch.no_grad()
def evaluate(
    model: nn.Module,
    ids: Tensor,
    *,
    batch: int = 32,
    steps: int = 35,
    separator: int | None = None,
    documents: Tensor | None = None,
) -> float:
    """Mean negative log-likelihood of a text in nats per token, every token but the first counted
    exactly once.

    The text is read as up to ``batch`` streams side by side, each with its state carried from its
    beginning to its end in stretches of ``steps``; ``batch=1`` is the whole text in one go, as
    exact and slower. Streams are at least one stretch long, so a short text has fewer.

    Args:
        ids: integer ``[tokens]``.
        separator: index of the token that begins a document; the state is reset where it is read.
        documents: int64, positions where a document begins; the state is reset there, too.

    Raises:
        TextError: fewer than two tokens.
    """
    if len(ids) < 2:
        raise TextError(f"expected at least 2 tokens to evaluate on, got {len(ids)}")
    device = next(model.parameters()).device
    ids = ids.to(device)
    rows, length = _shape(len(ids) - 1, batch, steps)
    starts = length * torch.arange(rows, device=device)
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    state: State | None = None
    try:
        for begin in range(0, length, steps):
            count = min(steps, length - begin)
            here, following = _block(ids, starts + begin, count)
            resets = _resets(here, starts + begin, separator, documents)
            options = {} if resets is None else {"resets": resets}
            scored = partial(model, here, state, **options)
            loss, state = labelled(model, scored, following, "sum")
            total += loss
    finally:
        model.train(training)
    return total.item() / (len(ids) - 1)


def _shape(count: int, batch: int, steps: int) -> tuple[int, int]:
    """How many rows ``count`` inputs make, and how long they are; the last one may lack some."""
    rows = max(1, min(batch, count // steps))
    length = -(-count // rows)
    return -(-count // length), length


def _block(ids: Tensor, starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels int64 ``[steps, rows]``, read where the text lies: it may be a file mapped
    into memory. What a last row lacks has label _PADDING."""
    positions = starts + torch.arange(steps + 1, device=starts.device).unsqueeze(1)
    last = len(ids) - 1
    found = gather(ids, positions.clamp(max=last))
    return found[:-1], found[1:].masked_fill(positions[1:] > last, _PADDING)


def _resets(
    inputs: Tensor, starts: Tensor, separator: int | None, documents: Tensor | None
) -> Tensor | None:
    """Where documents begin, bool ``[steps, rows]``; None where there is but one."""
    begins = None if separator is None else inputs == separator
    if documents is not None and len(documents) > 1:
        listed = document_resets(documents.to(inputs.device), starts, len(inputs))
        begins = listed if begins is None else begins | listed
    return begins
