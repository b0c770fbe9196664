"""What a corpus of sub-words needs before it is counted: the place where its training part ends, and
a tokenizer trained on that part."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from fusedrnn.text.bpe import BPETokenizer
from fusedrnn.text.decode import check_encoding, decode
from fusedrnn.text.errors import TextError
from fusedrnn.text.passes import Place
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import Source


def prepare(
    sources: Sequence[Source], recipe: Recipe, lengths: Sequence[int]
) -> tuple[Recipe, Place | None]:
    """The recipe with a trained tokenizer, and where its training part ends.

    A tokenizer that is still to be trained can only be trained on a part that is split off before
    there are tokens to count: the first ``1 - valid_fraction`` of the bytes, to the end of a line.
    Any other recipe comes back as it is, with None: its split goes by tokens.

    Args:
        lengths: of the sources in bytes, unpacked.

    Raises:
        TextError: no line end to split at, or an encoding other than UTF-8.
    """
    tokenizer = recipe.tokenizer
    if not isinstance(tokenizer, BPETokenizer) or tokenizer.is_trained:
        return recipe, None
    if check_encoding(recipe.encoding, recipe.encoding_errors) != "utf-8":
        raise TextError(f"bpe: expected UTF-8 text to train on, got {recipe.encoding}")
    end = _training_end(sources, lengths, recipe.split(sum(lengths)))
    trained = tokenizer.trained(_texts(sources, recipe, end), recipe.special)
    return replace(recipe, tokenizer=trained), end


def _training_end(sources: Sequence[Source], lengths: Sequence[int], bytes_: int) -> Place:
    """The last line end among the first so many bytes; the end of a document is one."""
    ends = list(accumulate(lengths))
    document = next(number for number, end in enumerate(ends) if bytes_ <= end)
    inside = bytes_ - (ends[document] - lengths[document])
    if inside == lengths[document]:
        return document + 1, 0
    offset = cut = 0
    for piece in sources[document].pieces():
        found = piece.rfind(b"\n", 0, inside - offset) + 1
        cut = offset + found if found else cut
        offset += len(piece)
        if offset >= inside:
            break
    if document == 0 and cut == 0:
        raise TextError(
            f"bpe: expected a line end in the first {bytes_:,} bytes, after which the text is held "
            "out, got none; hold nothing out (a fraction of 0)"
        )
    return document, cut


def _texts(sources: Sequence[Source], recipe: Recipe, end: Place) -> Iterator[str]:
    """The training part, decoded, in stretches of lines."""
    errors = {"error": "strict"}.get(recipe.encoding_errors, recipe.encoding_errors)
    for number, source in enumerate(sources[: end[0] + 1]):
        left = end[1] if number == end[0] else None
        decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
        lines = io.IncrementalNewlineDecoder(decoder, translate=True)
        offset = 0
        for piece in source.pieces() if left != 0 else ():
            piece = piece if left is None else piece[: left - offset]
            try:
                yield lines.decode(piece)
            except UnicodeDecodeError:
                decode(piece, source.name, offset=offset)  # says which byte
                raise
            offset += len(piece)
            if offset == left:
                break
