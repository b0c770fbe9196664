"""Ctrl-C and SIGTERM end a run between two updates, so that what is saved is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Whether someone has asked for the end.

    Attributes:
        requested: True from the first signal on. A second one raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.requested = False

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextlib.contextmanager
    def watched(self) -> Iterator[Interrupts]:
        """Within it signals are noted; outside the main thread, where Python delivers none, and for
        a signal that the process was started to ignore, nothing changes."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._receive)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
