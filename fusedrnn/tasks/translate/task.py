"""Translation as a task of the training loop: its pairs, its loss and its metrics."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from fusedrnn.tasks.translate.batches import Batch, PairData
from fusedrnn.tasks.translate.bleu import BleuUnavailableError, corpus_bleu
from fusedrnn.tasks.translate.codec import Codec
from fusedrnn.tasks.translate.forcing import truth_at
from fusedrnn.tasks.translate.pairs import Pair
from fusedrnn.tasks.translate.predict import Translator
from fusedrnn.train import Step, Task
from fusedrnn.train.checkpoint import CheckpointError, read

KIND = "translation"


@dataclass(frozen=True)
class HeldOut:
    """Sentences to judge translations by.

    Attributes:
        sources: each different sentence once.
        references: for each of them its translations, in the target codec's own form.
    """

    sources: list[str]
    references: list[list[str]]

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: Codec, target: Codec) -> HeldOut:
        grouped: dict[str, list[str]] = {}
        for one, other in pairs:
            grouped.setdefault(source.text(one), []).append(target.text(other))
        return cls(list(grouped), [list(dict.fromkeys(row)) for row in grouped.values()])

    def scores(self, translations: Sequence[str]) -> dict[str, float]:
        """``exact``, the share of translations that are one of their references, and ``bleu``,
        corpus BLEU (left out where sacrebleu is not installed)."""
        pairs = zip(translations, self.references, strict=True)
        exact = sum(translation in references for translation, references in pairs)
        scores = {"exact": exact / len(self.sources)}
        with contextlib.suppress(BleuUnavailableError):
            scores["bleu"] = corpus_bleu(translations, self.references)
        return scores


@dataclass(frozen=True)
class Forcing:
    """How often the decoder reads given tokens while it learns; see `truth_at`.

    Attributes:
        epochs: the length of the training, over which a schedule falls.
    """

    floor: float = 1.0
    schedule: str = "constant"
    epochs: int = 1


class TranslationTask(Task):
    """Learns to translate sentence pairs.

    Args:
        translator: the model to train and its codecs.
        train: pairs to learn from.
        valid: pairs to hold out; may be empty.
        batch: sentence pairs of a batch.
        seed: of the order of the pairs.
        forcing: whether the decoder ever reads its own words.

    The loss is the mean over the target's tokens, end marks included and padding left out, in nats.
    """

    kind: ClassVar[str] = KIND
    unit: ClassVar[str] = "tokens"
    perplexity: ClassVar[bool] = True

    def __init__(
        self,
        translator: Translator,
        train: Sequence[Pair],
        valid: Sequence[Pair] = (),
        *,
        batch: int = 64,
        seed: int = 0,
        forcing: Forcing | None = None,
    ) -> None:
        self.translator = translator
        self.model = translator.model
        self.held_out = HeldOut.of(valid, translator.source, translator.target)
        self._train, self._valid = self._data(train), self._data(valid)
        self._batch, self._seed = batch, seed
        self._forcing = forcing or Forcing()
        self._first = [translator.source.text(source) for source, _ in train[:100]]
        self._hash = hashlib.sha256(json.dumps([list(train), list(valid)]).encode()).hexdigest()

    @property
    def pairs(self) -> int:
        """The number of pairs to learn from."""
        return len(self._train)

    @property
    def first_source(self) -> str:
        """A sentence to try the model with: the first held-out one, or the first."""
        return (self.held_out.sources or self._first)[0]

    def _data(self, pairs: Sequence[Pair]) -> PairData:
        translator = self.translator
        sources = [translator.encode(source) for source, _ in pairs]
        targets = [translator.target.encode(target, translator.longest) for _, target in pairs]
        return PairData(sources, targets, next(self.model.parameters()).device)

    def updates(self, epoch: int) -> int:
        return -(-len(self._train) // self._batch)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        updates = self.updates(epoch)
        rows = self._train.shuffled(self._batch, self._seed, epoch)
        for number in range(skip, updates):
            progress = min(1.0, (epoch + number / updates) / self._forcing.epochs)
            truth = truth_at(progress, self._forcing.floor, self._forcing.schedule)
            yield self._train.batch(rows[number], truth)

    def loss(self, model: nn.Module, batch: Batch, carried: Any) -> Step:
        loss = model(
            batch.source,
            batch.source_lengths,
            batch.inputs,
            batch.lengths,
            batch.truth,
            labels=batch.labels,
        )
        count = int(batch.lengths.sum())
        return Step(loss, loss.detach() * count, count)

    def evaluate(self) -> dict[str, float]:
        """``valid_loss``, and of greedy translations ``valid_exact`` and, with sacrebleu,
        ``valid_bleu``."""
        if not len(self._valid):
            return {}
        scores = self.held_out.scores(self.translator.translate(self.held_out.sources))
        return {"valid_loss": self._valid_loss()} | {
            f"valid_{name}": value for name, value in scores.items()
        }

    @torch.no_grad()
    def _valid_loss(self) -> float:
        training = self.model.training
        self.model.eval()
        try:
            steps = [
                self.loss(self.model, self._valid.batch(rows), None)
                for rows in self._valid.in_order(self._batch)
            ]
        finally:
            self.model.train(training)
        return sum(step.total.item() for step in steps) / sum(step.count for step in steps)

    def samples(self, count: int) -> list[str]:
        """Greedy translations of held-out sentences (or, with none held out, of learned ones)."""
        sources = (self.held_out.sources or self._first)[:count]
        translations = self.translator.translate(sources)
        return [f"{one} -> {other}" for one, other in zip(sources, translations, strict=True)]

    def describe(self) -> dict[str, Any]:
        return self.translator.describe()

    def fingerprint(self) -> dict[str, Any]:
        forcing = asdict(self._forcing)
        if self._forcing.schedule == "constant":
            del forcing["epochs"]  # a run may be made longer where that changes no update
        return {
            "pairs": self._hash,
            "batch": self._batch,
            "seed": self._seed,
            "longest": self.translator.longest,
            "max_length": self.translator.max_length,
            "reverse": self.translator.reverse,
            "forcing": forcing,
        }


def load_translator(path: str | Path, device: str | torch.device = "cpu") -> Translator:
    """The translator in a checkpoint of a `TranslationTask`.

    Args:
        path: the file, or the folder of the run.

    Raises:
        CheckpointError: no such file, one of another kind or version, or a damaged one.
    """
    checkpoint = read(path, KIND)
    try:
        return Translator.from_description(checkpoint.about, checkpoint.model, device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        message = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: expected a whole checkpoint, got: {message}") from error
