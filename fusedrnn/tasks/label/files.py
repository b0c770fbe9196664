"""Files of labelled texts (``label<TAB>text``), and the lines of any file.

UTF-8; a byte-order mark is dropped, every kind of line end is one. A file is read whole and refused
whole: nothing is skipped silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusedrnn.errors import at
from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.text.corpus import read_text


@dataclass(frozen=True)
class Example:
    """A text with its label, and where it stood.

    Attributes:
        label: not empty; ``""`` where the file has texts alone.
        line: counted from 1.
    """

    text: str
    label: str
    line: int


def read_lines(path: str | Path) -> list[str]:
    """The lines of a file without their ends.

    Only line feeds (and carriage returns) end a line: other characters that Unicode counts as line
    ends may stand in a text.

    Raises:
        TextError: not UTF-8, or empty.
        OSError: the file cannot be read.
    """
    lines = read_text(path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_labelled(path: str | Path) -> list[Example]:
    """The examples of a file with one ``label<TAB>text`` per line.

    Raises:
        LabelError: a line with another number of columns, an empty label or text.
        TextError, OSError: as `read_lines`.
    """
    examples = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t")
        if len(cells) != 2:
            raise LabelError(
                f"{at(path, number)}: expected 2 columns, label<TAB>text, got {len(cells)}"
            )
        for column, (what, cell) in enumerate(zip(("label", "text"), cells, strict=True), 1):
            if not cell.strip():
                raise LabelError(f"{at(path, number, column)}: expected a {what}, got nothing")
        examples.append(Example(cells[1], cells[0].strip(), number))
    return examples


def read_texts(path: str | Path) -> list[Example]:
    """The texts of a file, one per line, without labels.

    Raises:
        LabelError: an empty line.
        TextError, OSError: as `read_lines`.
    """
    examples = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            raise LabelError(f"{at(path, number)}: expected a text, got an empty line")
        examples.append(Example(line, "", number))
    return examples
