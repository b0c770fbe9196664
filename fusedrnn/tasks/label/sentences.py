"""Files of tagged sentences: CoNLL-U and two columns.

CoNLL-U (universaldependencies.org/format.html): ten columns between tabs, a blank line after each
sentence, comments behind ``#``. Words are numbered from 1; a multiword token (``3-4``) repeats the
words that follow it and an empty node (``8.1``) is no word of the text, so both are checked and
skipped. Two columns: ``word<TAB>tag``, a blank line between sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusedrnn.errors import at
from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.tasks.label.files import read_lines

FORMATS = ("auto", "conllu", "columns")
TAG_COLUMNS = {"upos": 4, "xpos": 5}

_FORM = 2
_ID = re.compile(r"([1-9][0-9]*)|([1-9][0-9]*)-([1-9][0-9]*)|(0|[1-9][0-9]*)\.([1-9][0-9]*)")


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence and their tags.

    Attributes:
        words: at least one, none empty.
        tags: as many, or none at all where they are not known.
        lines: the line of each word, counted from 1; empty for a sentence that is from no file.
        column: the column of the tags.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    column: int = 2


def read_sentences(
    path: str | Path, format: str = "auto", tag: str = "upos", *, tagged: bool = True
) -> list[Sentence]:
    """The sentences of a file.

    Args:
        format: one of `FORMATS`; auto means CoNLL-U for a file called ``.conllu``, else columns.
        tag: which tags of CoNLL-U: ``"upos"`` or ``"xpos"``.
        tagged: whether tags are required and read; without, two-column files may have one column.

    Raises:
        LabelError: a wrong number of columns, an empty word or tag, ids that do not count, a
            sentence without words; the message names line and column.
        TextError, OSError: as `read_lines`.
    """
    if format not in FORMATS:
        raise LabelError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if tag not in TAG_COLUMNS:
        raise LabelError(f"tag: expected one of {', '.join(TAG_COLUMNS)}, got {tag!r}")
    lines = read_lines(path)
    if format == "conllu" or (format == "auto" and Path(path).suffix == ".conllu"):
        column = TAG_COLUMNS[tag]
        return [
            _conllu(path, first, block, column, tagged) for first, block in _blocks(path, lines)
        ]
    return [_columns(path, first, block, tagged) for first, block in _blocks(path, lines)]


def _blocks(path: str | Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The runs of lines between blank ones, each with the number of its first line."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    if not lines:
        raise LabelError(f"{path}: expected sentences, got blank lines")
    block: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
        else:
            raise LabelError(
                f"{at(path, number)}: expected a sentence, got a blank line that ends none"
            )


def _columns(path: str | Path, first: int, block: list[str], tagged: bool) -> Sentence:
    """One sentence of a two-column file."""
    words, tags = [], []
    for number, line in enumerate(block, first):
        cells = line.split("\t")
        if len(cells) != 2 and (tagged or len(cells) != 1):
            wanted = "2 columns, word<TAB>tag" if tagged else "1 or 2 columns, word or word<TAB>tag"
            raise LabelError(f"{at(path, number)}: expected {wanted}, got {len(cells)}")
        words.append(_cell(path, number, 1, cells[0], "word"))
        if tagged:
            tags.append(_cell(path, number, 2, cells[1], "tag"))
    return Sentence(tuple(words), tuple(tags), tuple(range(first, first + len(block))))


def _conllu(path: str | Path, first: int, block: list[str], column: int, tagged: bool) -> Sentence:
    """One sentence of a CoNLL-U file."""
    ids = _Ids()
    words: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    for number, line in enumerate(block, first):
        if line.startswith("#"):
            if ids.begun:
                raise LabelError(f"{at(path, number)}: expected a word, got a comment after words")
            continue
        cells = line.split("\t")
        if len(cells) != 10:
            raise LabelError(f"{at(path, number)}: expected 10 columns, got {len(cells)}")
        fault, is_word = ids.take(cells[0])
        if fault:
            raise LabelError(f"{at(path, number, 1)}: {fault}")
        if is_word:
            words.append(_cell(path, number, _FORM, cells[_FORM - 1], "word"))
            lines.append(number)
            if tagged:
                tags.append(_tag(path, number, column, cells[column - 1]))
    last = first + len(block) - 1
    if not words:
        raise LabelError(f"{at(path, last)}: expected a sentence with words, got none")
    if ids.covered > ids.word:
        raise LabelError(
            f"{at(path, last, 1)}: expected the word {ids.covered} that a multiword token names, "
            f"got a sentence that ends with word {ids.word}"
        )
    return Sentence(tuple(words), tuple(tags), tuple(lines), column)


class _Ids:
    """The ids of a sentence of CoNLL-U, one after the other.

    Attributes:
        word: the last word's number.
        covered: the last word of the last multiword token.
        empty: the last empty node's number behind that word.
        begun: whether there was any id.
    """

    def __init__(self) -> None:
        self.word = self.covered = self.empty = 0
        self.begun = False

    def take(self, cell: str) -> tuple[str, bool]:
        """What is wrong with this id, if anything, and whether it is a word's."""
        self.begun = True
        match = _ID.fullmatch(cell)
        parts = match.groups() if match else (None,) * 5
        word, begin, end, node, minor = (-1 if part is None else int(part) for part in parts)
        following = self.word + 1
        if word == following:
            self.word, self.empty = word, 0
            return "", True
        if begin == following < end and self.covered <= self.word:
            self.covered = end
            return "", False
        if node == self.word and minor == self.empty + 1:
            self.empty = minor
            return "", False
        wanted = f"{following}, {following}-N (a multiword token) or {self.word}.{self.empty + 1}"
        return f"expected the id {wanted} (an empty node), got {cell!r}", False


def _cell(path: str | Path, line: int, column: int, cell: str, what: str) -> str:
    if not cell.strip():
        raise LabelError(f"{at(path, line, column)}: expected a {what}, got nothing")
    return cell


def _tag(path: str | Path, line: int, column: int, cell: str) -> str:
    if cell == "_":
        raise LabelError(f"{at(path, line, column)}: expected a tag, got '_' (none given)")
    return _cell(path, line, column, cell, "tag")
