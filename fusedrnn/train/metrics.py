"""Files of one JSON object per line, which grow while a run goes on and can be cut back."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def perplexity(loss: float) -> float:
    """Perplexity of a mean negative log-likelihood in nats per token; inf where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class MetricsFile:
    """One JSON object per line, each written through to the file at once.

    Args:
        keep: which objects of a file that is there remain, up to the first that does not: those of
            the run that goes on. None begins an empty file.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool] | None = None) -> None:
        kept = [] if keep is None else _leading(path, keep)
        self._file = path.open("w" if keep is None else "a", encoding="utf-8")
        if keep is not None:
            self._file.truncate(sum(len(line) for line, _ in kept))
        self.kept = [values for _, values in kept]

    def write(self, values: Mapping[str, Any]) -> None:
        """Raises ValueError for a number that JSON has not, such as infinity."""
        self._file.write(json.dumps(values, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Makes what was written survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        # Every line went through when it was written, or `write` has said that it could not.
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _leading(
    path: Path, keep: Callable[[dict[str, Any]], bool]
) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines at the beginning of a file that are whole and to be kept."""
    lines: list[tuple[bytes, dict[str, Any]]] = []
    if not path.exists():
        return lines
    with path.open("rb") as file:
        for line in file:
            try:
                values = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                values = None
            if not isinstance(values, dict) or not keep(values):
                break
            lines.append((line, values))
    return lines


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a metrics file, in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
