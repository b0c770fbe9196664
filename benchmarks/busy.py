"""A neighbour that keeps one core busy, switched on and off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def busy_process() -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A process on the first core that we may use, and the two functions that let it go and stop."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        process.send_signal(signal.SIGSTOP)
        yield (
            lambda: process.send_signal(signal.SIGCONT),
            lambda: process.send_signal(signal.SIGSTOP),
        )
    finally:
        process.kill()
        process.wait()
