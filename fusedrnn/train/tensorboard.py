"""The numbers of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusedrnn.errors import UserError


class TensorBoardUnavailableError(UserError, RuntimeError):
    """tensorboard is not installed."""


class Board:
    """Scalars in the event files of a folder.

    Args:
        folder: where they go; ``tensorboard --logdir`` reads it.
        update: what was written for later updates, by a run that was broken off, is hidden.

    Raises:
        TensorBoardUnavailableError: without tensorboard (``pip install 'fusedrnn[tensorboard]'``).
    """

    def __init__(self, folder: Path, update: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise TensorBoardUnavailableError(
                "expected tensorboard for --tensorboard, got none (pip install "
                "'fusedrnn[tensorboard]')"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=update + 1 if update else None)

    def write(self, group: str, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
