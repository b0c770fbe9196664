"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, keep: int = 1) -> None:
    """Writes a whole file or none: to a neighbour, flushed to the disk, renamed to ``path``.

    Args:
        keep: how many versions remain. With 3, the one before ends up as `previous(path, 1)` and
            the one before that as `previous(path, 2)`; at every moment ``path`` is a whole file.

    Raises:
        OSError: the file cannot be written; what was at ``path`` is untouched and nothing else
            remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep > 1 and path.exists():
            _shift(path, keep)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def previous(path: Path, back: int) -> Path:
    """Where the version of ``path`` that is ``back`` writes old stands; 0 is the newest."""
    return path.with_name(f"{path.stem}.{back}{path.suffix}") if back else path


def versions(path: Path) -> list[Path]:
    """The versions of ``path`` that are there, the newest first, also where that one is missing."""
    older = path.parent.glob(f"{path.stem}.[0-9]*{path.suffix}")
    numbers = (file.name[len(path.stem) + 1 : -len(path.suffix)] for file in older)
    backs = sorted(int(number) for number in numbers if number.isdecimal())
    return [path] * path.exists() + [previous(path, back) for back in backs]


def remove_leftovers(path: Path) -> None:
    """Removes what writers of ``path`` that were killed have left beside it."""
    for file in path.parent.glob(f".{path.name}.*.tmp"):
        file.unlink(missing_ok=True)


def _shift(path: Path, keep: int) -> None:
    for back in range(keep - 1, 1, -1):
        newer = previous(path, back - 1)
        if newer.exists():
            newer.replace(previous(path, back))
    # A second name for the newest, so that it never goes missing under its own.
    second = previous(path, 1)
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, second)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a power cut, on systems that can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
