"""Where downloaded and encoded texts are kept, and how files get there whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from fusedrnn.text.errors import TextError

_T = TypeVar("_T")


def cache_folder() -> Path:
    """The folder that $FUSEDRNN_CACHE names, else ``fusedrnn`` in $XDG_CACHE_HOME, else
    ``~/.cache/fusedrnn``. It need not exist yet."""
    named = os.environ.get("FUSEDRNN_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fusedrnn"


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none: to a neighbour, flushed to the disk, renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="ascii") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, parse: Callable[[Any], _T]) -> _T | None:
    """What ``parse`` makes of what `write_json` wrote; None where there is nothing that can be read
    as JSON, or JSON of another shape, on which ``parse`` fails."""
    try:
        return parse(json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder, which is made where needed, for this process alone; waits its turn."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise TextError(f"{folder}: expected a folder for the cache, got a file") from error
    with (folder / "lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # a system without such locks: two processes would do the work twice
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
