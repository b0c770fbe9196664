"""Series, and how they are read from a file of comma-separated values.

A file has a header and a row per step. Rows of several series stand in one file with a column that
names the series; their rows may alternate, but each series' own are in the order of time.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusedrnn.errors import at
from fusedrnn.tasks.forecast.dates import parse_time, short_time
from fusedrnn.tasks.forecast.errors import SeriesError

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Columns:
    """Which column of a file means what.

    Attributes:
        target: what is forecast.
        time: dates; None for steps counted from 0.
        series: the name of the series that a row belongs to; None where the file is one series.
        past: covariates known up to the present only.
        known: covariates known ahead (a holiday, a planned price). Rows at the end of a series
            whose target is empty give their values after the present.
    """

    target: str
    time: str | None = None
    series: str | None = None
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All that are named."""
        single = [name for name in (self.target, self.time, self.series) if name is not None]
        return [*single, *self.past, *self.known]


@dataclass(frozen=True)
class Series:
    """One series of N steps, with its covariates.

    Attributes:
        name: as in the file's column of series, else the name of the file.
        target: float64 ``[N]``.
        past: float64 ``[N, P]``, covariates known up to the present.
        known: float64 ``[N + ahead, C]``, covariates known ahead.
        times: datetime64[s] ``[N + ahead]``, or None for steps without dates.
        end: where its last value stands: file, line and column; empty for a series of no file.
    """

    name: str
    target: Floats
    past: Floats
    known: Floats
    times: Times | None = None
    end: str = ""

    def __len__(self) -> int:
        return len(self.target)


def from_values(target: Sequence[float] | Floats, name: str = "series") -> Series:
    """A series without dates or covariates. Raises SeriesError unless all values are finite."""
    values = np.asarray(target, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise SeriesError(f"{name}: expected finite numbers in one dimension, got {target!r:.60}")
    nothing = np.empty((len(values), 0))
    return Series(name, values, nothing, nothing)


def read_csv(
    path: str | Path, columns: Columns, *, delimiter: str = ",", time_format: str | None = None
) -> list[Series]:
    """The series of a file, in the order of their first rows.

    Args:
        delimiter: one character, which separates cells.
        time_format: of the dates, as in ``strptime``; None for ISO 8601, ``2024-05`` and ``2024``.

    Raises:
        SeriesError: an empty file, a missing column, a row with too few or too many cells, a cell
            that is no finite number or no date, dates that do not rise within a series.
        OSError: a file that cannot be read.
    """
    path = Path(path)
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise SeriesError(f"delimiter: expected one character between cells, got {delimiter!r}")
    rows = _rows(path, delimiter)
    found = next(rows, None)
    if found is None:
        raise SeriesError(f"{path}: expected a header and rows, got an empty file")
    header = [name.strip() for name in found[1]]
    place = _places(path, header, columns)
    building: dict[str, _Building] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            raise SeriesError(
                f"{at(path, line)}: expected {len(header)} cells as in the header, got {len(cells)}"
            )
        row = _Row(path, line, place, cells, time_format)
        name = path.stem if columns.series is None else row.text(columns.series)
        building.setdefault(name, _Building(name)).add(row, columns)
    if not building:
        raise SeriesError(f"{path}: expected rows after the header, got none")
    return [each.finish(path) for each in building.values()]


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; lines without any character are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as error:
                raise SeriesError(f"{at(path, reader.line_num)}: {error}") from error
    except UnicodeDecodeError as error:
        raise SeriesError(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#x} at {error.start}"
        ) from error


def _places(path: Path, header: list[str], columns: Columns) -> dict[str, int]:
    """Where each wanted column stands."""
    wanted = columns.names()
    for name in wanted:
        if header.count(name) != 1:
            got = ", ".join(header)
            many = f"{header.count(name)} of that name" if name in header else got
            raise SeriesError(f"{at(path, 1)}: expected one column {name!r}, got {many}")
        if wanted.count(name) > 1:
            raise SeriesError(f"column {name!r}: expected one use of it, got {wanted.count(name)}")
    return {name: header.index(name) for name in wanted}


@dataclass(frozen=True)
class _Row:
    """A row that can say where it stands when a cell does not serve."""

    path: Path
    line: int
    place: dict[str, int]
    cells: list[str]
    time_format: str | None

    def at(self, column: str) -> str:
        """The place of a cell."""
        return at(self.path, self.line, column)

    def text(self, column: str) -> str:
        value = self.cells[self.place[column]].strip()
        if not value:
            raise SeriesError(f"{self.at(column)}: expected a name, got an empty cell")
        return value

    def empty(self, column: str) -> bool:
        return not self.cells[self.place[column]].strip()

    def number(self, column: str) -> float:
        value = self.cells[self.place[column]].strip()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            got = repr(value) if value else "an empty cell"
            raise SeriesError(f"{self.at(column)}: expected a finite number, got {got}")
        return number

    def time(self, column: str) -> np.datetime64:
        value = self.cells[self.place[column]].strip()
        try:
            return parse_time(value, self.time_format)
        except ValueError:
            form = self.time_format or "a date as 2024-05-31, 2024-05-31 14:00, 2024-05 or 2024"
            raise SeriesError(f"{self.at(column)}: expected {form}, got {value!r}") from None


@dataclass
class _Building:
    """A series while its rows come in."""

    name: str
    target: list[float] = field(default_factory=list)
    past: list[list[float]] = field(default_factory=list)
    known: list[list[float]] = field(default_factory=list)
    times: list[np.datetime64] = field(default_factory=list)
    end: str = ""

    def add(self, row: _Row, columns: Columns) -> None:
        if columns.time is not None:
            time = row.time(columns.time)
            if self.times and time <= self.times[-1]:
                raise SeriesError(
                    f"{row.at(columns.time)}: expected a date after "
                    f"{short_time(self.times[-1])}, that of the row before, got {short_time(time)}"
                )
            self.times.append(time)
        ahead = len(self.known) > len(self.target)
        if columns.known and (ahead or row.empty(columns.target)):
            if not row.empty(columns.target):
                raise SeriesError(
                    f"{row.at(columns.target)}: expected an empty cell after an "
                    "empty one (only the last rows may lack the target), got a value"
                )
        else:
            self.target.append(row.number(columns.target))
            self.end = row.at(columns.target)
            self.past.append([row.number(name) for name in columns.past])
        self.known.append([row.number(name) for name in columns.known])

    def finish(self, path: Path) -> Series:
        if not self.target:
            raise SeriesError(f"{path}: expected values of series {self.name!r}, got none")
        return Series(
            self.name,
            np.array(self.target),
            np.array(self.past),
            np.array(self.known),
            np.array(self.times, dtype="datetime64[s]") if self.times else None,
            self.end,
        )
