"""Fair timing of several callables within one process.

Rounds go round-robin over the contenders, each round starting with another one, so that what
disturbs the machine disturbs all of them. A sample is preceded by a pause in which the thread pools
of the contender before go to sleep, and by one call that is not timed. Medians are reported with
their quartiles, and ratios both of the medians and as the median of the ratios within each round.

Where somebody can say whether the machine has all its cores (:mod:`benchmarks.steady`), rounds that
begin or end without them are repeated: whole rounds, without a look at what they measured.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.steady import PATIENCE, watched

Call = Callable[[], object]
_LONG_AGO = 1.0  # seconds after which caches, pools and the host's memory are not what they were


@dataclass(frozen=True)
class Effort:
    """How long to measure one case.

    Rounds continue until ``seconds`` have passed or there are ``most`` of them, but there are
    ``fewest`` at least. Fast calls are repeated until a sample takes ``sample`` seconds. Rounds that
    were disturbed do not count, for up to ``PATIENCE`` times that many rounds or seconds.
    """

    seconds: float = 4.0
    fewest: int = 5
    most: int = 41
    sample: float = 2e-3

    def over(self, good: int, bad: int, elapsed: float) -> bool:
        """Whether so many rounds, the ``bad`` ones disturbed, in so many seconds are enough."""
        enough = good >= self.fewest and elapsed > self.seconds
        hopeless = good + bad >= PATIENCE * self.fewest and elapsed > PATIENCE * self.seconds
        return good >= self.most or enough or hopeless


@dataclass(frozen=True)
class Rounds:
    """Seconds per call of every contender, round by round: ``samples[name][round]``.

    ``disturbed`` are those of the rounds that do not count. Where the others would be fewer than
    wanted, all rounds count, in their order, and ``steady`` is False.
    """

    samples: dict[str, list[float]]
    disturbed: dict[str, list[float]]
    steady: bool


def settle(limit: float = 0.02) -> None:
    """Waits until no other thread of this process runs: pools spin for a while after their work."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        time.sleep(limit / 4)
        return
    me = str(threading.get_native_id())
    end = time.perf_counter() + limit
    while time.perf_counter() < end and any(_runs(t) for t in tasks.iterdir() if t.name != me):
        time.sleep(2e-4)


def _runs(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:  # the thread ended between the listing and the reading
        return False


def seconds_of(call: Call, repeats: int = 1) -> float:
    """Seconds of one call, mean over ``repeats`` calls in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def repeats_for(call: Call, sample: float) -> int:
    """How many calls fill a sample; the first call, which may be slow for once, does not count."""
    first = seconds_of(call)
    once = first if first > sample else min(seconds_of(call) for _ in range(3))
    return max(1, math.ceil(sample / max(once, 1e-9)))


def _nothing() -> None:
    pass


def interleave(
    calls: Mapping[str, Call], effort: Effort, before: Mapping[str, Call] | None = None
) -> dict[str, list[float]]:
    """Seconds per call of every contender, round by round: ``result[name][round]``.

    ``before[name]`` is called, untimed, ahead of each sample of that contender.
    """
    return rounds(calls, effort, before).samples


def rounds(
    calls: Mapping[str, Call],
    effort: Effort,
    before: Mapping[str, Call] | None = None,
    all_there: Callable[[], bool] = lambda: True,
) -> Rounds:
    """As :func:`interleave`. ``all_there`` says whether the machine has all its cores, together, just
    now."""
    names, before = list(calls), before or {}
    repeats = {name: repeats_for(calls[name], effort.sample) for name in names}
    taken: list[tuple[dict[str, float], bool]] = []  # rounds, and whether they count
    spent = 0.0  # without the seconds in which the cores rested
    ended = time.perf_counter()

    def one_round() -> dict[str, float]:
        nonlocal spent, ended
        begin = time.perf_counter()
        cold = begin - ended > _LONG_AGO
        spent += min(begin - ended, _LONG_AGO)
        first = len(taken) % len(names)
        last = taken[-1][0] if taken else dict.fromkeys(names, 0.0)
        samples = {}
        for name in names[first:] + names[:first]:
            before.get(name, _nothing)()
            settle()
            # Wakes the pool and brings the caches back; nothing to a long call, but after a rest.
            if last[name] < 0.1 or cold:
                calls[name]()
            samples[name] = seconds_of(calls[name], repeats[name])
        ended = time.perf_counter()
        spent += ended - begin
        return samples

    def cores_there() -> bool:
        settle()
        return all_there()

    good = 0
    for samples, well in watched(one_round, cores_there):
        taken.append((samples, well))
        good += well
        if effort.over(good, len(taken) - good, spent):
            break
    steady = good >= min(effort.fewest, effort.most)
    counting = [samples for samples, well in taken if well or not steady]
    disturbed = [samples for samples, well in taken if not well and steady]
    return Rounds(_columns(names, counting), _columns(names, disturbed), steady)


def _columns(names: list[str], rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in names}


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Interquartile range as a fraction of the median."""
        return (self.high - self.low) / self.median


def spread(values: list[float]) -> Spread:
    """Median and quartiles (inclusive method) of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(slow: list[float], fast: list[float]) -> tuple[float, Spread]:
    """How many times longer ``slow`` takes: ratio of medians, and spread of the rounds' ratios."""
    by_round = [a / b for a, b in zip(slow, fast, strict=True)]
    return statistics.median(slow) / statistics.median(fast), spread(by_round)


def geometric_mean(values: list[float]) -> float:
    """Of at least one positive value; nan if one is nan."""
    return math.exp(statistics.fmean(math.log(v) for v in values))


def context_switches() -> int:
    """How often this process was made to give up a core so far."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def wait_for_quiet(limit: float, most: float = 0.05) -> None:
    """Waits, ``limit`` seconds at most, until others use less than ``most`` cores."""
    end = time.perf_counter() + limit
    load = OtherLoad()
    while time.perf_counter() < end:
        time.sleep(0.2)  # the system counts in hundredths of a second
        if not load.look() > most:
            return


class OtherLoad:
    """Cores that other processes kept busy since the last look; nan where the system cannot say."""

    def __init__(self) -> None:
        self.before = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        mine = sum(os.times()[:4])  # with children that were waited for
        try:
            fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        except OSError:
            return time.perf_counter(), math.nan, mine
        user, nice, system, _idle, _wait, irq, soft, steal = map(float, fields[:8])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, mine

    def look(self) -> float:
        """Mean number of cores that others, the hypervisor included, took since the last look."""
        now, before = self._read(), self.before
        self.before = now
        elapsed = max(now[0] - before[0], 1e-9)
        return max(0.0, ((now[1] - before[1]) - (now[2] - before[2])) / elapsed)


def table_options(about: str) -> argparse.ArgumentParser:
    """The options of a command that times a few cases and prints a table."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each case")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    return parser
