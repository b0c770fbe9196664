"""A trained model with its codecs: sentences in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusedrnn.tasks.translate.batches import pad
from fusedrnn.tasks.translate.codec import END, PADDING, START, UNKNOWN, Codec, CodecError
from fusedrnn.tasks.translate.model import EncoderDecoder
from fusedrnn.tasks.translate.search import Hypothesis, Marks, beam_search, greedy

_MARKS = Marks(START, END, (UNKNOWN, PADDING))


@dataclass(frozen=True)
class Attended:
    """Where a model looked while it wrote.

    Attributes:
        source: tokens in the order in which the model read them, and the end mark.
        target: tokens that it wrote, and the end mark.
        weights: ``[target tokens, source tokens]``, each row of which sums to 1.
    """

    source: list[str]
    target: list[str]
    weights: Tensor


@dataclass(frozen=True)
class Translator:
    """A model that translates sentences.

    Attributes:
        longest: the most tokens of a translation, end mark included.
        max_length: to how many tokens a source is cut, end mark included; None for not at all.
        reverse: whether the model reads the source backwards (Sutskever, Vinyals and Le,
            arXiv:1409.3215).
    """

    model: EncoderDecoder
    source: Codec
    target: Codec
    longest: int
    max_length: int | None = None
    reverse: bool = False

    def encode(self, sentence: str) -> list[int]:
        """The indices that the model reads, end mark included."""
        indices = self.source.encode(sentence)
        if self.reverse:
            indices = [*reversed(indices[:-1]), END]
        return indices[: self.max_length]

    def translate(
        self, sentences: Sequence[str], *, width: int = 1, penalty: float = 1.0, batch: int = 128
    ) -> list[str]:
        """One translation for each sentence; see `search`."""
        found = self.search(sentences, width=width, penalty=penalty, batch=batch)
        return [self.target.decode(best.tokens) for best, *_ in found]

    def search(
        self, sentences: Sequence[str], *, width: int = 1, penalty: float = 1.0, batch: int = 128
    ) -> list[list[Hypothesis]]:
        """For each sentence its hypotheses, best first: at most ``width``, at least one.

        Args:
            width: of the beam; 1 is greedy search.
            penalty: of beam search, see `beam_search`.
            batch: sentences that are translated side by side.
        """
        encoded = [self.encode(sentence) for sentence in sentences]
        by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]), reverse=True)
        found: list[list[Hypothesis]] = [[] for _ in encoded]
        with self._evaluating():
            for begin in range(0, len(by_length), batch):
                places = by_length[begin : begin + batch]
                rows = self._search([encoded[place] for place in places], width, penalty)
                for place, hypotheses in zip(places, rows, strict=True):
                    found[place] = hypotheses
        return found

    def attention(self, sentence: str, hypothesis: Hypothesis) -> Attended:
        """Where the model looks in ``sentence`` while it writes the tokens of ``hypothesis``.

        Raises ValueError for a model without attention.
        """
        indices = self.encode(sentence)
        written = [*hypothesis.tokens, END]
        source, lengths = pad([indices], self._device)
        inputs, _ = pad([[START, *hypothesis.tokens]], self._device)
        with self._evaluating():
            weights = self.model.attend(source, lengths, inputs)[0]
        return Attended(self.source.labels(indices), self.target.labels(written), weights.cpu())

    def describe(self) -> dict[str, Any]:
        """Everything but the parameters, in JSON's own types."""
        return {
            "model": self.model.config,
            "source": self.source.describe(),
            "target": self.target.describe(),
            "longest": self.longest,
            "max_length": self.max_length,
            "reverse": self.reverse,
        }

    @classmethod
    def from_description(
        cls, about: Mapping[str, Any], parameters: Mapping[str, Tensor], device: Any = "cpu"
    ) -> Translator:
        """The translator that `describe` described, with these parameters.

        Raises ValueError, KeyError, TypeError or RuntimeError for descriptions or parameters that
        do not fit together.
        """
        model = EncoderDecoder(**about["model"])
        model.load_state_dict(parameters)
        source, target = (Codec.from_description(about[side]) for side in ("source", "target"))
        sizes = (model.config["source_vocab"], model.config["target_vocab"])
        if (len(source), len(target)) != sizes:
            raise CodecError(
                f"expected vocabularies of {sizes[0]} and {sizes[1]} entries, got {len(source)} "
                f"and {len(target)}"
            )
        model.to(device).eval()
        longest, max_length = about["longest"], about["max_length"]
        return cls(model, source, target, longest, max_length, about["reverse"])

    @property
    def _device(self) -> torch.device:
        return self.model.head.weight.device

    def _search(
        self, encoded: Sequence[Sequence[int]], width: int, penalty: float
    ) -> list[list[Hypothesis]]:
        source, lengths = pad(encoded, self._device)
        if width == 1:
            return [[one] for one in greedy(self.model, source, lengths, _MARKS, self.longest)]
        return beam_search(
            self.model, source, lengths, _MARKS, self.longest, width=width, penalty=penalty
        )

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)
