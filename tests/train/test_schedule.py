"""Learning rates, by their formulas."""

from __future__ import annotations

import math

import pytest

from fusedrnn.train import Settings
from fusedrnn.train.schedule import Schedule
from fusedrnn.train.settings import SettingsError


def _rates(make_task, *, epochs=6, losses=None, lr=2.0, **options):
    """The learning rate of each update; the task has six batches an epoch."""
    settings = Settings(epochs=epochs, **options)
    schedule = Schedule(settings, lr, make_task())
    rates, update = [], 0
    for epoch in range(epochs):
        for batch in range(0, 6, settings.accumulate):
            rates.append(schedule.rate(update, epoch, batch / 6))
            update += 1
        schedule.epoch_ended(losses[epoch] if losses else 1.0)
    return rates


def test_constant_with_and_without_warmup(make_task):
    assert _rates(make_task) == [2.0] * 36
    warm = _rates(make_task, warmup=4)
    assert warm == [0.5, 1.0, 1.5, 2.0] + [2.0] * 32


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"decay_after": 4}, [1, 1, 1, 1, 0.5, 0.25]),  # Zaremba et al. 2014
        ({"decay_every": 2}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"decay_after": 1, "decay_every": 3, "decay": 0.1}, [1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ({"min_lr": 0.6}, [1, 0.5, 0.3, 0.3, 0.3, 0.3]),
    ],
)
def test_step(make_task, options, factors):
    rates = _rates(make_task, schedule="step", **options)
    assert rates[::6] == pytest.approx([2.0 * each for each in factors])
    assert rates[::6] == rates[5::6]


def test_exponential(make_task):
    rates = _rates(make_task, schedule="exponential", decay=0.5)
    assert rates == pytest.approx([2.0 * 0.5 ** (update / 6) for update in range(36)])


def test_no_rate_below_which_nothing_may_go_is_above_where_it_starts(make_task):
    with pytest.raises(SettingsError, match=r"at most the learning rate, 0\.1, got 0\.2"):
        Settings(epochs=1, lr=0.1, min_lr=0.2)
    with pytest.raises(SettingsError, match=r"at most the learning rate, 0\.1, got 0\.2"):
        Schedule(Settings(epochs=1, min_lr=0.2), 0.1, make_task())
    assert Settings(epochs=1, lr=0.1, min_lr=0.1).min_lr == 0.1


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_cosine(make_task, accumulate):
    rates = _rates(make_task, schedule="cosine", warmup=3, min_lr=0.1, accumulate=accumulate)
    count = 6 * -(-6 // accumulate)
    assert len(rates) == count
    turns = [math.pi * max(0, update - 3) / (count - 3) for update in range(count)]
    expected = [0.1 + 1.9 * (1 + math.cos(turn)) / 2 for turn in turns]
    for update in range(3):
        expected[update] *= (update + 1) / 3
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.2


def test_plateau(make_task):
    losses = [3.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    rates = _rates(make_task, schedule="plateau", losses=losses)
    assert rates[::6] == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.5, 0.5])
    patient = _rates(make_task, schedule="plateau", plateau=1, losses=losses)
    assert patient[::6] == pytest.approx([2.0, 2.0, 2.0, 2.0, 1.0, 1.0])


def test_the_state_of_a_plateau_goes_on(make_task):
    settings = Settings(epochs=9, schedule="plateau", plateau=1)
    one, two = (Schedule(settings, 1.0, make_task()) for _ in range(2))
    for loss in (3.0, 4.0, 5.0, 4.0):
        one.epoch_ended(loss)
    two.load(one.state())
    for loss in (5.0, 2.0, 2.0, 2.0):
        for each in (one, two):
            each.epoch_ended(loss)
        assert one.rate(9, 1, 0.0) == two.rate(9, 1, 0.0)
    assert two.rate(9, 1, 0.0) == 0.125
