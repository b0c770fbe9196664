"""From bytes to text: the encoding, and what becomes of bytes that are not in it."""

from __future__ import annotations

import codecs
import io

from fusedrnn.text.errors import TextError

ENCODING_ERRORS = ("error", "replace", "ignore")

_PYTHONS_NAMES = {"error": "strict", "replace": "replace", "ignore": "ignore"}
_MARKS = (  # the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_encoding(encoding: str, errors: str) -> str:
    """Python's name of an encoding, after checking both.

    Raises:
        TextError: an encoding that Python does not know as one of text, or another policy than one
            of `ENCODING_ERRORS`.
    """
    if errors not in ENCODING_ERRORS:
        raise TextError(
            f"encoding errors: expected one of {', '.join(ENCODING_ERRORS)}, got {errors!r}"
        )
    try:
        name = codecs.lookup(encoding).name
        b" ".decode(encoding, "replace")  # refuses codecs that are not of text
    except (LookupError, ValueError) as error:
        raise TextError(f"encoding: expected one that Python knows, got {encoding!r}") from error
    return "utf-8" if name == "utf-8-sig" else name


def decode(
    data: bytes, name: str, encoding: str = "utf-8", errors: str = "error", offset: int = 0
) -> str:
    """The text of a document: a byte-order mark is dropped and every line end becomes ``"\\n"``.

    Args:
        name: what messages call the document.
        encoding: any that Python knows.
        errors: what becomes of bytes that are not in it. ``"error"`` raises, ``"replace"`` puts
            U+FFFD for each maximal ill-formed part, ``"ignore"`` leaves them out.
        offset: where in the document ``data`` begins, where it is not the whole.

    Raises:
        TextError: bad bytes with ``"error"`` (the message names the first), or an unknown encoding
            or policy.
    """
    encoding = check_encoding(encoding, errors)
    codec = "utf-8-sig" if encoding == "utf-8" and offset == 0 else encoding
    try:
        text = data.decode(codec, _PYTHONS_NAMES[errors])
    except UnicodeDecodeError as error:
        start = error.start + len(data) - len(error.object)  # counted with the byte-order mark
        head = data[:4] if offset == 0 else b""
        raise bad_byte(name, encoding, data[start], offset + start, head) from error
    except UnicodeError as error:  # such as a missing byte-order mark
        raise TextError(f"{name}: expected {encoding} text, got: {error}") from error
    if encoding != "utf-8":
        text = _without_halves(text, name, errors).decode()
    return io.IncrementalNewlineDecoder(None, True).decode(text, final=True)


def bad_byte(name: str, encoding: str, byte: int, position: int, head: bytes) -> TextError:
    """The error for a byte that is not in the encoding; ``head``: the document's first bytes."""
    label = "UTF-8" if encoding == "utf-8" else encoding
    hint = next((f"; it begins like {mark[1]}" for mark in _MARKS if head.startswith(mark[0])), "")
    return TextError(
        f"{name}: expected {label} text, got the byte 0x{byte:02x} at position {position}, which "
        f"is not{hint}"
    )


def _without_halves(text: str, name: str, errors: str) -> bytes:
    """The text in UTF-8. Some encodings can spell half of a surrogate pair, which is no character."""
    try:
        return text.encode("utf-8", _PYTHONS_NAMES[errors])
    except UnicodeEncodeError as error:
        raise TextError(f"{name}: expected text, got half of a surrogate pair") from error


class Transcoder:
    """Bytes in any encoding, in pieces cut anywhere, to UTF-8; begins anew after a last piece."""

    def __init__(self, encoding: str, errors: str) -> None:
        self._make = codecs.getincrementaldecoder(encoding)
        self._policy, self._errors = errors, _PYTHONS_NAMES[errors]
        self._encoding = encoding
        self._restart()

    def _restart(self) -> None:
        self._decoder = self._make(self._errors)
        self._position = 0
        self._head = b""

    def __call__(self, data: bytes, name: str, last: bool = False) -> bytes:
        self._head = (self._head + data[:4])[:4]
        try:
            text = self._decoder.decode(data, last)
        except UnicodeDecodeError as error:
            # The decoder put what the last piece left over in front of this one.
            before = len(error.object) - len(data)
            position = self._position - before + error.start
            byte = error.object[error.start]
            raise bad_byte(name, self._encoding, byte, position, self._head) from error
        except UnicodeError as error:
            raise TextError(f"{name}: expected {self._encoding} text, got: {error}") from error
        utf8 = _without_halves(text, name, self._policy)
        self._position += len(data)
        if last:
            self._restart()
        return utf8
