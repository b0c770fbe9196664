"""Rounds for which the machine has not all its cores are repeated, as whole rounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import pytest
from benchmark_records import record, run_of

from benchmarks import machine, questions, scaling, steady, summary, timing, worker
from benchmarks.grid import Case
from benchmarks.steady import FAR, PATIENCE, Cores
from fusedrnn import _C

ROUNDS = timing.Effort(seconds=0.0, fewest=3, most=9, sample=0.0)


def saying(*answers: bool) -> Callable[[], bool]:
    """One answer after the other, then yes."""
    left = chain(answers, repeat(True))
    return lambda: next(left)


def counting() -> dict[str, timing.Call]:
    return {"a": lambda: None, "b": lambda: None}


@pytest.mark.parametrize(
    ("answers", "left_out"),
    [
        ((), []),
        ((False,), []),  # before the first round; asked again, they are there
        ((False, False), [0]),
        ((True, False), [0]),  # after the first, and there again before the second
        ((True, False, False), [0, 1]),
        ((True, True, False, False, True, False), [1, 2, 3]),
        ((True, True, True, False), [2]),
    ],
)
def test_a_round_counts_that_begins_and_ends_with_all_cores(
    answers: tuple[bool, ...], left_out: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(range(1000))
    monkeypatch.setattr(timing, "seconds_of", lambda call, repeats=1: float(next(marks)) + 1)
    monkeypatch.setattr(timing, "repeats_for", lambda call, sample: 1)
    taken = timing.rounds(counting(), ROUNDS, all_there=saying(*answers))
    count = 3 + len(left_out)
    order = [{name: 2.0 * i + place + 1 for place, name in enumerate("ba" if i % 2 else "ab")}
             for i in range(count)]  # fmt: skip
    for name in "ab":
        assert taken.samples[name] == [order[i][name] for i in range(count) if i not in left_out]
        assert taken.disturbed[name] == [order[i][name] for i in left_out]
    assert taken.steady


def test_a_machine_that_never_recovers_ends_and_everything_counts() -> None:
    taken = timing.rounds(counting(), ROUNDS, all_there=lambda: False)
    assert {len(s) for s in taken.samples.values()} == {PATIENCE * ROUNDS.fewest}
    assert not any(taken.disturbed.values())
    assert not taken.steady


def test_too_few_good_rounds_are_not_chosen_from_the_others() -> None:
    answers = [True, True, *[False] * 40]
    taken = timing.rounds(counting(), ROUNDS, all_there=saying(*answers))
    assert {len(s) for s in taken.samples.values()} == {PATIENCE * ROUNDS.fewest}
    assert not taken.steady


def test_when_it_is_enough() -> None:
    effort = timing.Effort(seconds=4.0, fewest=5, most=41)
    assert not effort.over(4, 0, 100.0 / PATIENCE / 10)
    assert effort.over(5, 0, 4.1)
    assert not effort.over(5, 0, 3.9)
    assert effort.over(41, 0, 0.1)
    assert not effort.over(0, 41, 0.1)
    assert not effort.over(4, 10, 11.9)
    assert effort.over(4, 11, 12.1)
    assert not effort.over(4, 3, 100.0)  # long rounds: three times the fewest are tried


def test_the_cores_are_there_once_the_rate_is_near_the_highest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("benchmarks.steady.time.perf_counter", lambda: 0.1 * next(clock))
    rates: list[float] = []
    cores = Cores(lambda: rates.pop(0))
    rates[:] = [50.0] * 3 + [
        100.0
    ] * 100  # the first time half a second is taken to find the highest
    assert cores.all_there()
    assert 4 <= 103 - len(rates) <= 7
    rates[:] = [50.0, 60.0, 91.0, 1.0]  # cores that were idle come back
    assert cores.all_there()
    assert rates == [1.0]
    rates[:] = [50.0] * 100
    assert not cores.all_there()
    assert 4 <= 100 - len(rates) <= 7  # half a second
    rates[:] = [120.0]
    assert cores.all_there()
    assert cores.highest == 120.0
    rates[:] = [100.0] * 100
    assert not cores.all_there()


def exchanging(*times: float) -> tuple[Cores, list[float]]:
    """Cores whose exchanges take so long, and the list to add more to."""
    left = list(times)
    return Cores(lambda: 1.0, patience=0.0, exchange=lambda: left.pop(0)), left


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rests: list[float] = []
    monkeypatch.setattr("benchmarks.steady.time.sleep", rests.append)
    return rests


def test_cores_that_lie_apart_rest_before_they_are_asked_again(slept: list[float]) -> None:
    cores, left = exchanging(100.0, FAR + 1)
    taken = steady.watched(lambda: len(slept), cores.all_there)
    assert next(taken) == (0, False)  # ends with cores that lie apart
    assert slept == []
    left += [FAR, FAR]
    assert next(taken) == (1, True)
    assert slept == [steady.REST]
    assert cores.exchanges == [100.0, FAR + 1, FAR, FAR]


def test_rests_in_vain_have_an_end(slept: list[float]) -> None:
    cores, _ = exchanging(100.0, *[500.0] * 10, 100.0, 500.0, 500.0)
    assert [cores.all_there() for _ in range(11)] == [True, *[False] * 10]
    assert len(slept) == steady.MOST_RESTS
    assert cores.all_there()
    assert [cores.all_there() for _ in range(2)] == [False, False]
    assert len(slept) == steady.MOST_RESTS + 1  # they came together in between


def test_what_was_never_better_is_how_the_machine_is(slept: list[float]) -> None:
    cores, _ = exchanging(*[400.0] * 10, 100.0, 400.0)
    answers = [cores.all_there() for _ in range(10)]
    assert answers == [False] * steady.MOST_RESTS + [True] * (10 - steady.MOST_RESTS)
    assert len(slept) == steady.MOST_RESTS
    assert cores.all_there()
    assert not cores.all_there()  # now it is known to be better


def test_cores_that_are_missing_do_not_rest(slept: list[float]) -> None:
    cores = Cores(lambda: 1.0, highest=2.0, patience=0.0, exchange=lambda: FAR + 1)
    assert [cores.all_there() for _ in range(2)] == [False, False]
    cores, _ = exchanging(float("inf"), 2 * steady.LOST, 100.0)
    assert [cores.all_there() for _ in range(3)] == [False, False, True]
    assert cores.exchanges == [100.0]
    assert slept == []


def test_rests_are_not_time_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who was called before a rest is called once more, untimed, after it."""
    now = [0.0]
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(timing, "settle", lambda: None)
    monkeypatch.setattr(timing, "repeats_for", lambda call, sample: 1)
    calls: list[float] = []

    def call() -> None:
        calls.append(now[0])
        now[0] += 0.2  # too long to be warmed

    def answer() -> bool:
        now[0] += 5.0 if len(calls) == 4 else 0.1
        return True

    effort = timing.Effort(seconds=4.0, fewest=5, most=99)
    taken = timing.rounds({"a": call}, effort, all_there=answer)
    # The first is warmed since nobody knows how long it takes, the fourth since all rested before it.
    assert len(calls) == len(taken.samples["a"]) + 2
    assert 9 <= len(taken.samples["a"]) <= 12  # rounds of 0.3 s in 4 s, of which the rest is one


def test_a_line_goes_to_another_core_and_back() -> None:
    assert _C.line_exchange(0.01) > 0
    for bad in (0.0, 61.0, float("nan")):
        with pytest.raises(ValueError, match="line_exchange: expected"):
            _C.line_exchange(bad)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to tie threads to a core")
def test_threads_that_share_a_core_exchange_nothing() -> None:
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        assert _C.line_exchange(0.01) > steady.LOST
        assert machine.cores(2).exchange is None  # type: ignore[union-attr]
    finally:
        os.sched_setaffinity(0, usable)


@pytest.mark.parametrize(
    ("threads", "usable", "one_cache", "asked"),
    [(2, 2, True, True), (2, 3, True, True), (1, 2, True, False), (3, 2, True, False), (2, 2, False, False)],
)  # fmt: skip
def test_only_cores_that_share_a_cache_are_asked(
    threads: int, usable: int, one_cache: bool, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    monkeypatch.setattr(machine, "one_cache", lambda: one_cache)
    cores = machine.cores(threads)
    assert cores is not None
    assert (cores.exchange is not None) == asked
    assert cores.exchange is None or cores.exchange() > 0


@pytest.mark.parametrize(
    ("lists", "together"),
    [
        (["0", "0-3"], True),
        (["0", "0-1"], False),
        (["0,2-3", "0-1"], True),
        ([], False),
        ([""], False),
    ],
)
def test_cores_that_share_a_cache(
    lists: list[str], together: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, text in enumerate(lists):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "shared_cpu_list").write_text(text + "\n")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "Path", lambda name: tmp_path if "cpu0" in name else None)
    assert machine.one_cache() == together
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    assert not machine.one_cache()


def test_the_report_says_how_far_the_cores_are() -> None:
    some = run_of(record()) | {"exchanges": [500.0, 104.4, 99.0, 110.0, 500.0, 500.0]}
    words = summary.conditions(some)
    assert "to another core and back in 104 ns; 3 of 6 times the cores lay farther apart" in words
    far = run_of(record()) | {"exchanges": [500.0]}
    assert "back in 500 ns; 1 of 1 times" in summary.conditions(far)
    assert "another core" not in summary.conditions(run_of(record()) | {"exchanges": []})


def test_the_rate_is_that_of_the_threads_asked_for() -> None:
    cores = machine.cores(1)
    assert cores is not None
    assert cores.rate() > 0


def test_a_neighbour_on_purpose_is_not_a_disturbance() -> None:
    never = Cores(lambda: 1.0, highest=100.0, patience=0.0)
    trial = questions.Trial("busy neighbour", Case("gru", 4, 3, 5, 6), counting(), all_cores=False)
    effort = timing.Effort(seconds=0.0, fewest=2, most=2, sample=0.0)
    told = worker.measure(trial, effort, never)
    assert told["steady"]
    assert len(told["samples"]["a"]) == 2
    trial.all_cores = True
    told = worker.measure(trial, effort, never)
    assert not told["steady"]
    assert len(told["samples"]["a"]) == 6


def test_the_report_says_what_was_left_out() -> None:
    quiet = record()
    assert summary.rounds_left_out([quiet]) == []
    old = record()
    del old["disturbed_samples"], old["steady"]
    assert summary.rounds_left_out([old]) == []
    assert summary.marks(old) == ""
    some = record(disturbed_samples={"fusedrnn": [1e-3] * 2, "torch.nn": [2e-3] * 2})
    lost = record(steady=False)
    (words,) = summary.rounds_left_out([quiet, some, lost])
    assert "In 2 rounds, which are left out" in words
    assert "in 1 of 3 cases" in words
    assert words in summary.conditions(run_of(some, lost, quiet))
    (table,) = [t for t in summary.tables(run_of(some, lost)) if t.title.startswith("GRU")]
    assert [row[0] for row in table.rows] == ["35,32,28,256", "35,32,28,256 +"]
    assert "+ The machine lacked a core" in table.note


def test_marks_are_explained_where_they_stand() -> None:
    lost, busy = record(steady=False, group="step"), record(others_cores=0.5, group="step")
    table = summary.question_table("Questions", [lost, busy])
    assert [row[0][-1] for row in table.rows] == ["+", "+", "*", "*"]
    assert "+ The machine lacked" in table.note
    assert "* Other processes" in table.note


def test_a_call_is_warmed_by_what_the_last_round_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by what the last disturbed one took."""
    took = iter([0.2, 0.05, 0.05, 0.05, 0.05])
    monkeypatch.setattr(timing, "seconds_of", lambda call, repeats=1: next(took))
    monkeypatch.setattr(timing, "repeats_for", lambda call, sample: 1)
    warmed: list[int] = []
    call = {"a": lambda: warmed.append(1)}
    effort = timing.Effort(seconds=0.0, fewest=3, most=9)
    timing.rounds(call, effort, all_there=saying(False, False))
    assert len(warmed) == 3  # rounds 0, 2 and 3; not 1, whose call was long before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to tie threads to a core")
def test_threads_in_turns_on_one_core_are_seen() -> None:
    """Each runs at full speed while it runs: its fastest slice says so, its rate does not."""
    cores = machine.cores(2)
    assert cores is not None
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        assert cores.rate() < 0.7 * max(_C.fma_peak(2, 0.04)["fastest"])
    finally:
        os.sched_setaffinity(0, usable)


class Turns:
    """A run of the scaling benchmark that answers 1, 2, 3 .."""

    def __init__(self) -> None:
        self.turns = 0

    def rate(self) -> float:
        self.turns += 1
        return float(self.turns)


def test_rounds_of_several_processes_are_repeated_too() -> None:
    runs = [Turns(), Turns()]
    answers = saying(True, True, False, True)
    rates, left_out = scaling.in_rounds(runs, 3, answers)  # type: ignore[arg-type]
    assert rates == [[1.0, 1.0], [3.0, 3.0], [4.0, 4.0]]
    assert left_out == "1"
    rates, left_out = scaling.in_rounds([Turns()], 3, lambda: False)  # type: ignore[list-item]
    assert len(rates) == 9
    assert left_out == "none, of 9"
