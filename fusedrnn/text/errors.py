"""The errors of the text layer. All are ValueErrors; each message says what was expected and what
came."""

from __future__ import annotations

from collections.abc import Sequence

from fusedrnn.errors import UserError

_SHOWN = 10


class TextError(UserError, ValueError):
    """A text, vocabulary or tokenizer description that cannot be used as asked."""


class UnknownTokenError(TextError):
    """Tokens that the vocabulary does not hold, where the caller asked for an error.

    Attributes:
        tokens: the distinct unknown tokens, in the order met.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(dict.fromkeys(tokens))
        shown = ", ".join(repr(token) for token in self.tokens[:_SHOWN])
        more = len(self.tokens) - _SHOWN
        super().__init__(
            f"not in the vocabulary: {shown}" + (f" and {more} more" if more > 0 else "")
        )
