"""The language model as a task of the training loop."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn.lm.checkpoint import KIND, describe
from fusedrnn.lm.evaluation import evaluate
from fusedrnn.lm.model import LanguageModel, detach, labelled
from fusedrnn.lm.sample import sample_text
from fusedrnn.lm.streams import Batch, Streams
from fusedrnn.lm.truncation import crossing, probability, stretches
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab
from fusedrnn.train.task import Step, Task

_SAMPLE_TOKENS, _SAMPLE_TEMPERATURE = 200, 0.8


class LanguageModelTask(Task):
    """Predict each token from those before it, by truncated backpropagation through time.

    In sequential order the recurrent state is carried from batch to batch and cut from its history;
    in random order every batch starts from zeros.

    Args:
        model: called as ``model(ids [T, B], state) -> (logits [T, B, V], state)``, as
            `LanguageModel`; the text is kept on its device.
        ids: integer ``[tokens]``, the text.
        batch: B, rows of a batch, of all processes together.
        steps: T, length of a chunk, after which the gradient may be cut.
        order, seed, same_start: see `Streams`.
        valid_ids: held-out text; fewer than two tokens count as none.
        truncation, cut: see `fusedrnn.lm.truncation`; other than ``"fixed"`` in sequential order
            alone.
        summed: whether the loss that is differentiated is summed over the steps and averaged over
            the rows (Zaremba et al. 2014), instead of averaged over both.
        separator: index of the token that begins a document: the state is reset where it is read.
        documents, valid_documents: int64, positions in the text and the held-out text where a
            document begins, rising: the state is reset there, too.
        tokenizer, vocab: what made the indices of the text; checkpoints and samples need them.

    Raises:
        TextError: a text that does not fill one batch, an unknown order.
        ValueError: an unknown truncation, or one that the order does not allow.
    """

    kind = KIND
    unit = "tokens"
    perplexity = True

    def __init__(
        self,
        model: nn.Module,
        ids: Tensor,
        *,
        batch: int = 32,
        steps: int = 35,
        order: str = "sequential",
        seed: int = 0,
        same_start: bool = False,
        valid_ids: Tensor | None = None,
        truncation: str = "fixed",
        cut: float = 0.5,
        summed: bool = False,
        separator: int | None = None,
        documents: Tensor | None = None,
        valid_documents: Tensor | None = None,
        tokenizer: Tokenizer | None = None,
        vocab: Vocab | None = None,
    ) -> None:
        self.model: nn.Module = model
        self._cut = probability(truncation, cut)
        if self._cut != 1.0 and order != "sequential":
            raise ValueError(f"truncation: expected 'fixed' in {order} order, got {truncation!r}")
        device = next(model.parameters()).device
        self._ids = ids.to(device)
        self._streams = Streams(
            self._ids, batch, steps, order, seed, same_start=same_start, documents=documents
        )
        held_out = valid_ids is not None and len(valid_ids) > 1
        self._valid = valid_ids.to(device) if valid_ids is not None and held_out else None
        self._valid_documents = valid_documents
        self._batch, self._steps, self._seed = batch, steps, seed
        self._carries, self._summed, self._separator = order == "sequential", summed, separator
        self._tokenizer, self._vocab = tokenizer, vocab
        self._settings: dict[str, Any] = {
            "batch": batch,
            "steps": steps,
            "order": order,
            "seed": seed,
            "same_start": same_start,
            "cut": self._cut,
            "summed": summed,
            "separator": separator,
            "documents": _documents(documents),
            "held-out documents": _documents(valid_documents),
        }

    def share(self, rank: int, world: int) -> None:
        self._streams.share(rank, world)

    def updates(self, epoch: int) -> int:
        if self._cut == 1.0:
            return self._streams.chunks(epoch)
        return len(self._stretches(epoch))

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """See `Streams.blocks`; T is a multiple of ``steps`` where cuts are random."""
        return self._streams.blocks(epoch, self._stretches(epoch), skip)

    def _stretches(self, epoch: int) -> list[int]:
        return stretches(self._streams.chunks(epoch), self._cut, self._seed, epoch)

    def loss(self, model: nn.Module, batch: Batch, carried: Any) -> Step:
        losses: list[Tensor] = []
        state = carried
        for here, following, resets in self._chunks(batch):
            if losses:
                state = crossing(state, self._cut)
            options = {} if resets is None else {"resets": resets}
            scored = partial(model, here, state, **options)
            loss, state = labelled(self.model, scored, following, one_pass=self._cut == 1.0)
            losses.append(loss)
        together = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        weight = self._weight(len(losses))
        tokens = self._steps * batch[1].shape[1]
        return Step(
            loss=together if weight == 1.0 else together * weight,
            total=together.detach() * tokens,
            count=tokens * len(losses),
            carried=detach(state) if self._carries else None,
        )

    def _chunks(self, batch: Batch) -> Iterator[Batch]:
        inputs, labels, resets = batch
        if self._separator is not None:
            begins = inputs == self._separator
            resets = begins if resets is None else resets | begins
        if self._cut == 1.0:
            return iter([(inputs, labels, resets)])
        steps = self._steps
        marks = itertools.repeat(None) if resets is None else resets.split(steps)
        return zip(inputs.split(steps), labels.split(steps), marks, strict=False)

    def _weight(self, chunks: int) -> float:
        """What the sum of the chunks' mean losses is multiplied by.

        Not one over the chunks of this very stretch: that would weigh the losses of long stretches
        less, and the expectation over the cuts would no longer be the gradient of the whole stream.
        """
        if self._summed:
            return float(self._steps)
        return self._cut if self._cut else 1.0 / chunks

    def evaluate(self) -> dict[str, float]:
        if self._valid is None:
            return {}
        loss = evaluate(
            self.model,
            self._valid,
            batch=self._batch,
            steps=self._steps,
            separator=self._separator,
            documents=self._valid_documents,
        )
        return {"valid_loss": loss}

    def samples(self, count: int) -> list[str]:
        if self._tokenizer is None or self._vocab is None:
            return []
        return [
            sample_text(
                self.model,
                self._tokenizer,
                self._vocab,
                length=_SAMPLE_TOKENS,
                temperature=_SAMPLE_TEMPERATURE,
                seed=self._seed + number,
            )
            for number in range(count)
        ]

    def describe(self) -> dict[str, Any]:
        if isinstance(self.model, LanguageModel) and self._tokenizer and self._vocab:
            return describe(self.model, self._tokenizer, self._vocab)
        return {"model": getattr(self.model, "config", {})}

    def fingerprint(self) -> dict[str, Any]:
        held_out = None if self._valid is None else _digest(self._valid)
        return {"text": _digest(self._ids), "held-out text": held_out, **self._settings}


def _digest(ids: Tensor) -> str:
    """SHA-256 of the indices, shortened."""
    return hashlib.sha256(ids.cpu().contiguous().numpy().data).hexdigest()[:16]


def _documents(begins: Tensor | None) -> str | None:
    """The same for where documents begin; None where there is but one."""
    return _digest(begins) if begins is not None and len(begins) > 1 else None
