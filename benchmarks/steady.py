"""Whether a machine has all its cores at the moment.

The host of a virtual machine may take a core away for seconds or minutes, or run two of them on one
of its own, and no account of the system shows it: every process just runs slower, in unequal
measure. Multiply-adds in registers need nothing but the cores, so their rate tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

#: So much of the highest rate that was seen means that all cores are there.
ENOUGH = 0.9
#: So many times the rounds that are wanted are tried at most.
PATIENCE = 3

Taken = TypeVar("Taken")


@dataclass
class Cores:
    """Asks for the rate of the slowest core, in any unit, and remembers the highest answer."""

    rate: Callable[[], float]
    highest: float = 0.0
    #: Seconds. A host that saw idle cores spreads them when both have worked for some 0.2 s.
    patience: float = 0.5

    def all_there(self) -> bool:
        """Whether the rate is near the highest one by the end of ``patience``, or earlier.

        The first time there is nothing to compare with, and all of ``patience`` is used to find it.
        """
        first = self.highest == 0.0
        end = time.perf_counter() + self.patience
        while True:
            now = self.rate()
            self.highest = max(self.highest, now)
            over = time.perf_counter() > end
            if now >= ENOUGH * self.highest and (over or not first):
                return True
            if over:
                return False


def watched(
    take: Callable[[], Taken], all_there: Callable[[], bool]
) -> Iterator[tuple[Taken, bool]]:
    """What ``take()`` gives, again and again, and whether it began and ended with all cores."""
    begins_well = all_there()
    while True:
        taken = take()
        ends_well = all_there()
        yield taken, begins_well and ends_well
        begins_well = ends_well
