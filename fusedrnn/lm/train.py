"""Training and evaluation of language models by truncated backpropagation through time.

In sequential order the recurrent state is carried from batch to batch and cut from its history
(Mikolov et al. 2010; Zaremba et al. 2014); in random order every batch starts from zeros. Gradients
are clipped by their global norm (Pascanu et al. 2013, algorithm 1).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fusedrnn.errors import UserError
from fusedrnn.lm.metrics import perplexity
from fusedrnn.lm.model import State, detach
from fusedrnn.text.batches import Order, Windows, make_order
from fusedrnn.text.errors import TextError

Batches = Iterable[tuple[Tensor, Tensor]]
OnStep = Callable[[int, Tensor], None]


class DivergedError(UserError, RuntimeError):
    """The loss became infinite or not a number, or so large that its perplexity is infinite."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training gave.

    Attributes:
        epoch: counted from 1.
        loss, perplexity: mean over the epoch's training tokens, in nats per token, measured as they
            were trained on.
        valid_loss, valid_perplexity: on the held-out tokens after the epoch; None without any.
        tokens: number of tokens trained on.
        seconds: time of the training part alone.
        tokens_per_s: their ratio.
    """

    epoch: int
    loss: float
    perplexity: float
    valid_loss: float | None
    valid_perplexity: float | None
    tokens: int
    seconds: float
    tokens_per_s: float

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    *,
    epochs: int,
    batch: int = 32,
    steps: int = 35,
    order: str = "sequential",
    clip: float = 1.0,
    seed: int = 0,
    valid_ids: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Epoch]:
    """Trains ``model`` and yields an `Epoch` after each pass over the text, so that the caller
    saves, prints or stops as it likes.

    Args:
        model: called as ``model(ids [T, B], state) -> (logits [T, B, V], state)``, as
            `LanguageModel`.
        optimizer: any of torch's over the model's parameters that needs no closure.
        ids: int64 ``[tokens]``, the text.
        batch, steps: rows and length of a batch.
        order: ``"sequential"`` or ``"random"``, see `fusedrnn.text.batches`.
        clip: largest global norm of the gradients; 0 leaves them as they are.
        seed: of the order. Initial parameters and dropout follow `torch.manual_seed`.
        valid_ids: held-out text; fewer than two tokens count as none.
        on_step: called after each step with its number of tokens and its mean loss (a tensor
            without history, so that reading it is the caller's choice).

    Raises:
        TextError: a text that does not fill one batch, or an unknown order.
        DivergedError: at the end of an epoch whose loss, or its perplexity, is not finite, on the
            training or the held-out text.
    """
    device = next(model.parameters()).device
    windows = Windows(ids.to(device), steps)
    positions = make_order(order, len(ids), batch, steps, seed)
    for epoch in range(epochs):
        begin = time.perf_counter()
        total, tokens = train_epoch(
            model,
            epoch_batches(windows, positions, epoch),
            optimizer,
            carry=positions.carries,
            clip=clip,
            on_step=on_step,
        )
        loss = total.item() / tokens  # waits for the device, so the clock is read after it
        seconds = time.perf_counter() - begin
        _check_finite(epoch + 1, "loss", loss)
        valid = None
        if valid_ids is not None and len(valid_ids) > 1:
            valid = evaluate(model, valid_ids, batch=batch, steps=steps)
            _check_finite(epoch + 1, "held-out loss", valid)
        yield Epoch(
            epoch=epoch + 1,
            loss=loss,
            perplexity=perplexity(loss),
            valid_loss=valid,
            valid_perplexity=None if valid is None else perplexity(valid),
            tokens=tokens,
            seconds=seconds,
            tokens_per_s=tokens / seconds,
        )


def _check_finite(epoch: int, what: str, loss: float) -> None:
    """DivergedError unless the loss and its perplexity are numbers that can be written down."""
    if not math.isfinite(perplexity(loss)):
        wanted = f"a {what} with a finite perplexity" if math.isfinite(loss) else f"a finite {what}"
        raise DivergedError(
            f"epoch {epoch}: expected {wanted}, got {loss}; a smaller learning rate or clip may help"
        )


def epoch_batches(windows: Windows, order: Order, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch, cut out on the device that holds the text."""
    for starts in order.starts(epoch).to(windows.ids.device):
        yield windows[starts]


def train_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    *,
    carry: bool,
    clip: float,
    on_step: OnStep | None = None,
) -> tuple[Tensor, int]:
    """One pass over ``batches``: the heart of the matter.

    Returns the loss summed over all tokens (nats; float64, on the model's device) and the number of
    tokens. ValueError for a model with nothing to train.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model: expected parameters to train, got none that requires a gradient")
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
    tokens = 0
    state: State | None = None
    for inputs, labels in batches:
        state = detach(state) if carry and state is not None else None
        logits, state = model(inputs, state)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        if clip:
            clip_grad_norm_(parameters, clip)
        optimizer.step()
        count = labels.numel()
        total += loss.detach() * count
        tokens += count
        if on_step is not None:
            on_step(count, loss.detach())
    return total, tokens


@torch.no_grad()
def evaluate(model: nn.Module, ids: Tensor, *, batch: int = 32, steps: int = 35) -> float:
    """Mean negative log-likelihood of a text in nats per token, every token but the first counted
    exactly once.

    The text is read as up to ``batch`` streams side by side, each with its state carried from its
    beginning to its end in stretches of ``steps``; ``batch=1`` is the whole text in one go, as
    exact and slower. Streams are at least one stretch long, so a short text has fewer.

    Raises:
        TextError: fewer than two tokens.
    """
    if len(ids) < 2:
        raise TextError(f"expected at least 2 tokens to evaluate on, got {len(ids)}")
    device = next(model.parameters()).device
    inputs, labels = _streams(ids.to(device), batch, steps)
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    state: State | None = None
    try:
        stretches = zip(torch.split(inputs, steps), torch.split(labels, steps), strict=True)
        for here, following in stretches:
            logits, state = model(here, state)
            total += F.cross_entropy(
                logits.flatten(0, 1), following.flatten(), ignore_index=_PADDING, reduction="sum"
            )
    finally:
        model.train(training)
    return total.item() / (len(ids) - 1)


_PADDING = -100


def _streams(ids: Tensor, batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels ``[length, rows]``; what a last row lacks is input 0 and label _PADDING."""
    count = len(ids) - 1
    rows = max(1, min(batch, count // steps))
    length = -(-count // rows)
    rows = -(-count // length)
    lack = rows * length - count
    inputs = F.pad(ids[:-1], (0, lack)).view(rows, length)
    labels = F.pad(ids[1:], (0, lack), value=_PADDING).view(rows, length)
    return inputs.t(), labels.t()
