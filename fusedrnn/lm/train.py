"""Training of language models, for callers who bring a model and an optimizer of their own.

What `fusedrnn.train` does for every task, epoch by epoch: in sequential order the recurrent state is
carried from batch to batch and cut from its history (Mikolov et al. 2010; Zaremba et al. 2014); in
random order every batch starts from zeros. Gradients are clipped by their global norm (Pascanu et
al. 2013, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusedrnn.lm.evaluation import evaluate
from fusedrnn.lm.model import State, detach
from fusedrnn.lm.task import LanguageModelTask
from fusedrnn.train.gradients import clip as clip_gradients
from fusedrnn.train.settings import Settings
from fusedrnn.train.trainer import Trainer
from fusedrnn.train.update import trained_parameters
from fusedrnn.train.watch import DivergedError, Update

__all__ = ["DivergedError", "Epoch", "evaluate", "train", "train_epoch"]

Batches = Iterable[tuple[Tensor, Tensor]]
OnStep = Callable[[int, Tensor], None]


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
        grad_norm, largest_grad_norm: global norm of the gradients before clipping, mean and largest
            over the updates.
    """

    epoch: int
    loss: float
    perplexity: float
    valid_loss: float | None
    valid_perplexity: float | None
    tokens: int
    seconds: float
    tokens_per_s: float
    grad_norm: float
    largest_grad_norm: float

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
    saves, prints or stops as it likes. For schedules, checkpoints and the like, hand a
    `LanguageModelTask` to `fusedrnn.train.train`.

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
        DivergedError: a loss, its perplexity or a gradient that is not finite.
    """
    task = LanguageModelTask(
        model, ids, batch=batch, steps=steps, order=order, seed=seed, valid_ids=valid_ids
    )

    def tell(update: Update) -> None:
        if on_step is not None:
            on_step(update.count, update.total / update.count)

    settings = Settings(epochs=epochs, clip=clip, seed=seed)
    trainer = Trainer(task, settings, optimizer=optimizer, on_step=tell)
    for record in trainer.epochs():
        missing = {"valid_loss": None, "valid_perplexity": None}
        values = {**missing, **record}
        yield Epoch(**{name: values[name] for name in Epoch.__dataclass_fields__})


def train_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    *,
    carry: bool,
    clip: float,
    on_step: OnStep | None = None,
) -> tuple[Tensor, int]:
    """One pass over any (inputs, labels), each int64 ``[T, B]``: the plain loop, to read or to
    change.

    Returns the loss summed over all tokens (nats; float64, on the model's device) and the number of
    tokens. ValueError for a model with nothing to train.
    """
    parameters = trained_parameters(model)
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
        clip_gradients(parameters, clip)
        optimizer.step()
        count = labels.numel()
        total += loss.detach() * count
        tokens += count
        if on_step is not None:
            on_step(count, loss.detach())
    return total, tokens
