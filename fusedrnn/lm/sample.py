"""Sampling: texts out of a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn.lm.sample_beam import Hypothesis, beam_search
from fusedrnn.lm.sample_loop import chunks, generate, stream
from fusedrnn.lm.sample_rules import Sampling, draw
from fusedrnn.lm.sample_score import TextScore, encode_prompt, score, score_text
from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab

__all__ = [
    "Hypothesis",
    "Sampling",
    "TextScore",
    "beam_search",
    "generate",
    "sample_text",
    "sample_texts",
    "score",
    "score_text",
    "stream",
    "stream_text",
]

_UNKNOWN = (0,)  # never drawn, as no text can show it


def sample_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    vocab: Vocab,
    prompt: str = "",
    length: int = 200,
    **options: Any,
) -> str:
    """The prompt and up to ``length`` tokens more, as text; options and errors as `sample_texts`."""
    return sample_texts(model, tokenizer, vocab, [prompt], length, **options)[0]


def sample_texts(
    model: nn.Module,
    tokenizer: Tokenizer,
    vocab: Vocab,
    prompts: Sequence[str],
    length: int = 200,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    stop: Sequence[str] = (),
    unknown: str = "error",
    beams: int = 0,
    length_penalty: float = 0.0,
    native: bool | None = None,
) -> list[str]:
    """Each prompt and up to ``length`` tokens more, as text. Same arguments, same machine: the same
    texts.

    Without a prompt the first token is drawn by the frequencies of the training text (the most
    frequent one at temperature 0). The unknown token is never drawn, as no text can show it.

    Args:
        prompts: texts of any lengths, which go on side by side.
        temperature, top_k, top_p, repetition_penalty, no_repeat_ngram: see `Sampling`.
        stop: a continuation ends before the first of these strings that it comes to.
        unknown: what becomes of tokens of a prompt outside the vocabulary: ``"error"`` names them,
            ``"unk"`` has the model read ``<unk>``, ``"skip"`` leaves them out.
        beams: 1 or more: `beam_search` of this width in place of draws. Each ``stop`` string that is
            the text of one token ends a hypothesis there; the best one is returned. The rules of
            draws stay at their defaults; without a prompt ``temperature`` and ``seed`` still choose
            the first token.
        length_penalty: see `beam_search`; for ``beams`` alone.
        native: see `generate`.

    Raises:
        UnknownTokenError: a prompt with tokens that the training text did not have, naming them.
        TextError: see `generate`; rules of draws together with ``beams``.
    """
    rules = Sampling(temperature, top_k, top_p, repetition_penalty, no_repeat_ngram, _UNKNOWN)
    if beams:
        _check_beams(rules, seed, prompts)
    elif length_penalty:
        raise TextError(f"length_penalty: expected beams with it, got {length_penalty} alone")
    generator = torch.Generator().manual_seed(seed)
    rows = _begin(tokenizer, vocab, prompts, length, rules, generator, stop, unknown)
    if beams:
        ends = _ends(tokenizer, vocab, stop)
        for row in rows:
            _search(model, row, beams, length_penalty, ends)
    else:
        for _ in _grow(model, rows, rules, generator, native):
            pass
    return [row.text for row in rows]


def stream_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    vocab: Vocab,
    prompt: str = "",
    length: int = 200,
    *,
    seed: int = 0,
    stop: Sequence[str] = (),
    unknown: str = "error",
    native: bool | None = None,
    **rules: Any,
) -> Iterator[str]:
    """`sample_text` in pieces, as they come: the prompt first, together the whole text.

    What may be the beginning of a ``stop`` string is held back until it is known. Beam search has
    nothing to show before its end, and is not offered; all else as `sample_texts`.
    """
    sampling = Sampling(**rules, banned=_UNKNOWN)
    generator = torch.Generator().manual_seed(seed)
    rows = _begin(tokenizer, vocab, [prompt], length, sampling, generator, stop, unknown)
    shown = 0
    for _ in _grow(model, rows, sampling, generator, native):
        sure = rows[0].sure
        if sure > shown:
            yield rows[0].text[shown:sure]
            shown = sure
    if rows[0].text[shown:]:
        yield rows[0].text[shown:]


class _Row:
    """A text that grows: the tokens read, those still allowed, and what they make."""

    def __init__(self, tokenizer: Tokenizer, vocab: Vocab, ids: list[int], stop: Sequence[str]):
        self._tokenizer, self._vocab, self._stop = tokenizer, vocab, stop
        self.ids, self.left = ids, 0
        self.text = self._join()
        self._begin = len(self.text)

    def _join(self) -> str:
        return self._tokenizer.join(self._vocab.decode(self.ids))

    def add(self, ids: list[int]) -> None:
        """Takes more tokens, as many as are allowed and as far as no stop string comes."""
        if not self.left:
            return
        self.ids += ids[: self.left]
        self.left -= min(len(ids), self.left)
        self.text = self._join()
        ends = [self.text.find(string, self._begin) for string in self._stop]
        if any(end >= 0 for end in ends):
            self.text = self.text[: min(end for end in ends if end >= 0)]
            self.left = 0

    @property
    def sure(self) -> int:
        """How much of the text no further token can change."""
        if not self.left:
            return len(self.text)
        text = self.text.rstrip("\ufffd")  # a character of which not all bytes are there yet
        most = max((len(string) for string in self._stop), default=1) - 1
        for begin in range(max(self._begin, len(text) - most), len(text)):
            if any(string.startswith(text[begin:]) for string in self._stop):
                return begin
        return len(text)


def _begin(
    tokenizer: Tokenizer,
    vocab: Vocab,
    prompts: Sequence[str],
    length: int,
    rules: Sampling,
    generator: torch.Generator,
    stop: Sequence[str],
    unknown: str,
) -> list[_Row]:
    """The rows after their prompts, each with at least one token if any is wanted."""
    if length < 0:
        raise TextError(f"length: expected 0 or more, got {length}")
    if len(vocab) == 1:
        raise TextError("vocabulary: expected tokens to draw, got the unknown token alone")
    if not prompts or "" in stop:
        raise TextError(f"expected prompts and stop strings of some length, got {prompts}, {stop}")
    rows = []
    for prompt in prompts:
        ids = encode_prompt(tokenizer, vocab, prompt, unknown).tolist()
        row = _Row(tokenizer, vocab, ids, stop)
        row.left = length
        if not ids and length > 0:
            row.add(_first(vocab, rules, generator).tolist())
        rows.append(row)
    return rows


def _first(vocab: Vocab, rules: Sampling, generator: torch.Generator) -> Tensor:
    """A token by the frequencies of the training text, int64 ``[1]``."""
    frequencies = torch.tensor([vocab.counts], dtype=torch.float64).log()
    by_frequency = Sampling(rules.temperature, banned=_UNKNOWN)
    uniform = by_frequency.uniform(1, 1, generator)[0]
    return draw(frequencies, by_frequency, [frequencies[0][:0].long()], uniform)[0]


def _grow(
    model: nn.Module,
    rows: list[_Row],
    rules: Sampling,
    generator: torch.Generator,
    native: bool | None,
) -> Iterator[None]:
    """Draws until no row may grow; a turn for each chunk of tokens, and one before the first."""
    yield
    growing = [row for row in rows if row.left]
    if not growing:
        return
    lengths = torch.tensor([len(row.ids) for row in growing])
    prompt = torch.zeros(int(lengths.max()), len(growing), dtype=torch.int64)
    for column, row in enumerate(growing):
        prompt[: len(row.ids), column] = torch.tensor(row.ids)
    ragged = None if len(growing) == 1 else lengths
    most = max(row.left for row in growing)
    for tokens, _ in chunks(model, prompt, most, rules, generator, ragged, native):
        for row, ids in zip(growing, tokens.t().tolist(), strict=True):
            row.add(ids)
        yield
        if not any(row.left for row in growing):
            return


def _check_beams(rules: Sampling, seed: int, prompts: Sequence[str]) -> None:
    """TextError for rules of draws, as beam search draws nothing but first tokens."""
    asked = vars(rules) | {"seed": seed}
    defaults = vars(Sampling(banned=_UNKNOWN)) | {"seed": 0}
    useful = () if all(prompts) else ("temperature", "seed")
    useless = [
        f"{name}={value}"
        for name, value in asked.items()
        if value != defaults[name] and name not in useful
    ]
    if useless:
        raise TextError(f"beams: expected no rules of draws beside it, got {', '.join(useless)}")


def _ends(tokenizer: Tokenizer, vocab: Vocab, stop: Sequence[str]) -> list[int]:
    """The tokens whose text is a stop string; a vocabulary may spell a token otherwise."""
    if not stop:
        return []
    strings = set(stop)
    return [index for index, token in enumerate(vocab) if tokenizer.join([token]) in strings]


def _search(
    model: nn.Module, row: _Row, beams: int, length_penalty: float, ends: Sequence[int]
) -> None:
    if not row.left:
        return
    best = beam_search(
        model,
        torch.tensor(row.ids),
        row.left,
        beams=beams,
        length_penalty=length_penalty,
        end=ends,
        banned=_UNKNOWN,
    )[0]
    row.add(best.tokens.tolist())
