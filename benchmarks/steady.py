"""Whether a machine has all its cores at the moment, and where it says they are.

The host of a virtual machine may take a core away for seconds or minutes, or run two of them on one
of its own, and no account of the system shows it: every process just runs slower, in unequal
measure. Multiply-adds in registers need nothing but the cores, so their rate tells.

It may also run cores that share a cache, by the system's account, in parts of a processor that do
not. Each is as fast as ever then, but whatever goes from one to the other takes five times as long.
The time in which a cache line goes there and back tells that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

#: So much of the highest rate that was seen means that all cores are there.
ENOUGH = 0.9
#: So many times the rounds that are wanted are tried at most.
PATIENCE = 3
#: Nanoseconds between those in which cores that share a cache exchange a line, there and back (90 to 120
#: were seen), and those of cores that do not (460 to 570).
FAR = 250.0
#: Nanoseconds. More than this stands for a thread that had no core.
LOST = 10_000.0
#: Seconds of idleness after which such a host brings its cores together, and spreads them anew.
REST = 3.5
#: So many rests in a row are tried in vain at most.
MOST_RESTS = 3

Taken = TypeVar("Taken")


@dataclass
class Cores:
    """Asks for the rate of the slowest core, in any unit, and remembers the highest answer.

    And, where it is given, for the nanoseconds of an exchange between two cores.
    """

    rate: Callable[[], float]
    highest: float = 0.0
    #: Seconds. A host that saw idle cores spreads them when both have worked for some 0.2 s.
    patience: float = 0.5
    exchange: Callable[[], float] | None = None
    exchanges: list[float] = field(default_factory=list)
    _apart: bool = False
    _rests: int = 0

    def all_there(self) -> bool:
        """Whether all cores are there and lie together. Who asks again after cores that lay apart lets
        them rest first."""
        if self._apart and self._rests < MOST_RESTS:
            self._rests += 1
            time.sleep(REST)
        return self._at_full_rate() and self._together()

    def _together(self) -> bool:
        if self.exchange is None:
            return True
        now = self.exchange()
        if now > LOST:
            return False
        self.exchanges.append(now)
        # What rests do not change, and was never better, is how this machine is.
        self._apart = now > FAR and (now > 2 * min(self.exchanges) or self._rests < MOST_RESTS)
        if now <= FAR:
            self._rests = 0
        return not self._apart

    def _at_full_rate(self) -> bool:
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
    """What ``take()`` gives, again and again, and whether it began and ended with all cores.

    A machine that has not all of them is asked once more before the next begins.
    """
    begins_well = all_there() or all_there()
    while True:
        taken = take()
        ends_well = all_there()
        yield taken, begins_well and ends_well
        begins_well = ends_well or all_there()
