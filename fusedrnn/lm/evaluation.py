"""How well a language model predicts a text, with its state carried along."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusedrnn.lm.model import State
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
    inputs, labels = _streams(ids.to(device), batch, steps)
    resets = _resets(inputs, separator, documents)
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    state: State | None = None
    try:
        for begin in range(0, len(inputs), steps):
            here, following = inputs[begin : begin + steps], labels[begin : begin + steps]
            options = {} if resets is None else {"resets": resets[begin : begin + steps]}
            logits, state = model(here, state, **options)
            total += F.cross_entropy(
                logits.flatten(0, 1), following.flatten(), ignore_index=_PADDING, reduction="sum"
            )
    finally:
        model.train(training)
    return total.item() / (len(ids) - 1)


def _resets(inputs: Tensor, separator: int | None, documents: Tensor | None) -> Tensor | None:
    """Where documents begin, bool ``[length, rows]``; None where there is but one."""
    begins = None if separator is None else inputs == separator
    if documents is not None and len(documents) > 1:
        listed = torch.zeros(inputs.numel(), dtype=torch.bool, device=inputs.device)
        within = documents[documents < inputs.numel()]
        listed[within.to(inputs.device)] = True
        listed = listed.view(inputs.shape[1], inputs.shape[0]).t()
        begins = listed if begins is None else begins | listed
    return begins


def _streams(ids: Tensor, batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels int64 ``[length, rows]``; what a last row lacks is input 0 and label
    _PADDING."""
    count = len(ids) - 1
    rows = max(1, min(batch, count // steps))
    length = -(-count // rows)
    rows = -(-count // length)
    lack = rows * length - count
    inputs = F.pad(ids[:-1].long(), (0, lack)).view(rows, length)
    labels = F.pad(ids[1:].long(), (0, lack), value=_PADDING).view(rows, length)
    return inputs.t(), labels.t()
