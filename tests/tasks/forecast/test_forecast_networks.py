"""Networks, rollouts, intervals and the task, against what they are defined as."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.forecasts import forecast, point
from fusedrnn.tasks.forecast.judge import judge, shown_horizons, table
from fusedrnn.tasks.forecast.networks import NETWORKS, build
from fusedrnn.tasks.forecast.series import Columns, Series, from_values
from fusedrnn.tasks.forecast.settings import Settings
from fusedrnn.tasks.forecast.task import ForecastTask
from fusedrnn.tasks.forecast.windows import Windows

KINDS = [(kind, "gru") for kind in NETWORKS] + [("rnn", "lstm"), ("seq2seq", "lstm")]


def _series(count=60, past=2, known=1, ahead=0, seed=0):
    draw = np.random.default_rng(seed)
    return Series(
        "s", draw.normal(size=count).cumsum(), draw.normal(size=(count, past)),
        draw.normal(size=(count + ahead, known)),
    )  # fmt: skip


def _task(**settings):
    columns = Columns("y", past=("a", "b"), known=("c",))
    torch.manual_seed(0)
    settings = {"columns": columns, "lags": 4, "horizon": 3, "hidden": 5, **settings}
    return ForecastTask([_series()], Settings(**settings), batch=7)


def _train(task, epochs, lr=0.01):
    optimizer = torch.optim.Adam(task.model.parameters(), lr)
    for epoch in range(epochs):
        total = count = 0
        for batch in task.batches(epoch):
            step = task.loss(task.model, batch, None)
            optimizer.zero_grad()
            step.loss.backward()
            optimizer.step()
            total, count = total + step.total.item(), count + step.count
    return total / count


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("kind", "cell"), KINDS)
@pytest.mark.parametrize(("strategy", "levels"), [("rollout", ()), ("direct", (0.1, 0.5, 0.9))])
def test_shapes_and_training(kind, cell, strategy, levels, residual):
    task = _task(kind=kind, cell=cell, strategy=strategy, levels=levels, residual=residual)
    steps = 1 if strategy == "rollout" and kind != "seq2seq" else 3
    batch = next(task.batches(0))
    assert batch.target.shape == (steps, 7)
    out = task.model(batch.past, batch.known)
    assert out.shape == (steps, 7, len(levels) or 1)
    before = task.evaluate()["valid_loss"]
    first = _train(copy.deepcopy(task), 1)
    assert _train(task, 15) < first
    assert task.evaluate()["valid_loss"] != before
    assert all(parameter.grad is not None for parameter in task.model.parameters())


@pytest.mark.parametrize(("kind", "cell"), KINDS)
def test_a_forecast_depends_on_all_that_is_known_and_on_nothing_else(kind, cell):
    """Gradients say what each step of a direct forecast has seen."""
    task = _task(kind=kind, cell=cell, strategy="direct")
    batch = task.train_windows.batch(torch.tensor([0]))
    past, known = batch.past.requires_grad_(), batch.known.requires_grad_()
    out = task.model(past, known)
    for step in range(3):
        seen = torch.autograd.grad(out[step].sum(), [past, known], retain_graph=True)
        ahead = seen[1].flatten() != 0
        if kind == "seq2seq":  # the decoder has not come to the later ones
            assert ahead.tolist() == [k <= step for k in range(3)]
            seen[0][-1, 0, -1] = 1.0  # known[0] once more, which the decoder reads there
        assert (seen[0] != 0).all() or kind == "mlp"  # a unit that is off hides what it reads


def test_without_hidden_layers_the_network_is_linear():
    network = _task(kind="linear").model
    assert [type(each) for each in network.modules() if not list(each.children())] == [nn.Linear]


@pytest.mark.parametrize(("kind", "cell"), KINDS)
def test_a_residual_network_without_weights_is_persistence(kind, cell):
    for strategy in ("rollout", "direct"):
        task = _task(kind=kind, cell=cell, strategy=strategy, residual=True)
        for parameter in task.model.parameters():
            nn.init.zeros_(parameter)
        judged = judge(task)
        expected = judged.methods["persistence"]
        assert judged.methods["network"] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_configurations_that_cannot_be():
    config = Settings().network()
    with pytest.raises(
        SeriesError, match="kind: expected one of linear, mlp, rnn, seq2seq, got 'x'"
    ):
        build({**config, "kind": "x"})
    with pytest.raises(SeriesError, match=f"cell: expected one of {', '.join(CELLS)}, got 'x'"):
        build({**config, "cell": "x"})
    with pytest.raises(SeriesError, match="lags: expected at least 2 for seq2seq, got 1"):
        build({**config, "kind": "seq2seq", "lags": 1})


# --- rollouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cell"), KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_a_rollout_is_one_step_after_the_other_on_own_predictions(kind, cell, residual):
    """Step k of a rollout is the first step of a forecast from a series with the predictions in it,
    and with the covariates of the past as they were."""
    task = _task(kind=kind, cell=cell, residual=residual)
    series = task.scaled[0]
    windows = Windows([series], [(20, 23)], 4, 3)
    rolled = forecast(task.model, windows, "rollout")[0, :, 0]
    target, past = series.target.copy(), series.past.copy()
    target[20:], past[20:] = 0.0, past[19]
    steps = []
    for k in range(3):
        own = Series("s", target, past, series.known)
        batch = Windows([own], [(20 + k, 23)], 4, 3 - k).batch(torch.tensor([0]))
        if kind == "seq2seq":  # which reads its own predictions in the decoder, from the origin on
            batch = Windows([own], [(20, 23)], 4, 3).batch(torch.tensor([0]))
            out = task.model(batch.past, batch.known, fed=batch.target)[k, 0, 0]
        else:
            out = task.model(batch.past, batch.known)[0, 0, 0]
        steps.append(out.item())
        target[20 + k] = steps[-1]
    assert rolled.tolist() == pytest.approx(steps, rel=1e-4, abs=1e-5)


def test_a_linear_rollout_of_least_squares_is_the_ar_floor():
    """With AR's own coefficients, the linear network gives what the floor gives."""
    values = _series().target
    task = ForecastTask([from_values(values)], Settings(lags=3, horizon=6, kind="linear"))
    from fusedrnn.tasks.forecast.floors import Autoregression

    floor = Autoregression([task.scaled[0].target[: task.cuts[0].valid]], 3)
    (layer,) = task.model.body
    layer.weight.data[0] = torch.tensor(floor.coefficients[::-1].copy())
    layer.bias.data[0] = floor.constant
    judged = judge(task)
    assert judged.methods["network"] == pytest.approx(judged.methods["AR(3)"], rel=1e-4, abs=1e-4)


def test_forecasts_leave_the_network_as_it_was_and_do_not_depend_on_the_batch():
    task = _task(dropout=0.5, strategy="direct", levels=(0.1, 0.5, 0.9))
    task.model.train()
    whole = forecast(task.model, task.train_windows, "direct", (0.1, 0.5, 0.9))
    assert task.model.training
    parts = forecast(task.model, task.train_windows, "direct", (0.1, 0.5, 0.9), rows=5)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert (whole.diff(dim=2) >= 0).all()
    assert torch.equal(point(whole), whole[:, :, 1])


# --- intervals -----------------------------------------------------------------------------------

_NORMAL = {0.05: -1.6449, 0.25: -0.6745, 0.5: 0.0, 0.75: 0.6745, 0.95: 1.6449}


def test_paths_of_a_known_process_spread_as_it_does():
    """AR(1) with its true quantiles: k steps ahead the variance is the sum of 0.8^2i, i < k."""
    levels, values = tuple(_NORMAL), torch.tensor(list(_NORMAL.values()))
    settings = Settings(lags=1, horizon=6, kind="linear", levels=levels, scale="none")
    task = ForecastTask([from_values(np.zeros(40))], settings)
    (layer,) = task.model.body
    layer.weight.data.fill_(0.8)
    layer.bias.data.copy_(values)
    windows = Windows([from_values(np.full(10, 2.0))], [(10, 16)], 1, 6)
    out = forecast(task.model, windows, "rollout", levels, paths=20000)[0]
    steps = torch.arange(1, 7)
    spread = ((1 - 0.64**steps) / (1 - 0.64)).sqrt()
    assert out[:, 2] == pytest.approx(2 * 0.8**steps, abs=0.05)
    # Straight between the levels the single draws are a little narrower than normal ones.
    assert (out[:, 4] - out[:, 0]) / (2 * 1.6449) == pytest.approx(spread, rel=0.08)
    again = forecast(task.model, windows, "rollout", levels, paths=20000)[0]
    assert torch.equal(out, again)
    other = forecast(task.model, windows, "rollout", levels, paths=20000, seed=1)[0]
    assert not torch.equal(out, other)


@pytest.mark.parametrize(("kind", "strategy"), [("linear", "direct"), ("mlp", "rollout"),
                                               ("rnn", "direct"), ("seq2seq", "direct")])  # fmt: skip
def test_intervals_learnt_cover_what_they_promise(kind, strategy):
    """An AR(1) with normal noise: the 80 % intervals hold as many of 1,200 unseen values as those of
    the process itself do, within three standard errors and the few per cent that 2,800 steps leave
    unknown, and are as wide."""
    draw, values = np.random.default_rng(0), [0.0]
    for noise in draw.normal(size=4000):
        values.append(0.7 * values[-1] + noise)
    torch.manual_seed(0)
    settings = Settings(
        lags=3, horizon=3, kind=kind, hidden=8, strategy=strategy, levels=(0.1, 0.5, 0.9),
        valid_fraction=0.0, test_fraction=0.3,
    )  # fmt: skip
    task = ForecastTask([from_values(values)], settings, batch=128)
    _train(task, 7, lr=0.03)
    _train(task, 3, lr=0.003)
    judged = judge(task)
    assert len(judged.actual) == 1199
    spread = 1.2816 * np.sqrt(np.cumsum(0.49 ** np.arange(3)))
    last = np.array(values)[judged.origins - 1][:, None] * 0.7 ** np.arange(1, 4)
    true = (np.abs(judged.actual - last) < spread).mean(axis=0)
    (share,) = judged.coverage().values()
    assert true == pytest.approx([0.8] * 3, abs=0.03)
    assert share == pytest.approx(true, abs=0.04)
    widths = (judged.quantiles[:, :, 2] - judged.quantiles[:, :, 0]).mean(axis=0)
    assert widths == pytest.approx(2 * spread, rel=0.1)


# --- the task ------------------------------------------------------------------------------------


def test_an_epoch_has_every_window_once_in_an_order_of_its_own():
    task = _task()

    def order(epoch, skip=0, of=task):
        return torch.cat([batch.target[0] for batch in of.batches(epoch, skip)])

    assert torch.equal(order(0).sort().values, order(1).sort().values)
    assert not torch.equal(order(0), order(1))
    assert torch.equal(order(0), order(0, of=_task()))
    assert torch.equal(order(3, skip=2), order(3)[14:])
    assert len(list(task.batches(0))) == task.updates(0) == -(-len(task.train_windows) // 7)
    assert len(order(0)) == len(task.train_windows)


def test_the_loss_is_the_mean_over_windows():
    task = _task(strategy="direct", levels=(0.25, 0.5, 0.75))
    batch = next(task.batches(0))
    step = task.loss(task.model, batch, None)
    error = batch.target.unsqueeze(2) - task.model(batch.past, batch.known)
    levels = torch.tensor([0.25, 0.5, 0.75])
    expected = torch.where(error > 0, levels * error, (levels - 1) * error).mean()
    assert step.loss.item() == pytest.approx(expected.item())
    assert (step.total / step.count).item() == pytest.approx(expected.item())
    assert (step.count, step.total.requires_grad, step.carried) == (7, False, None)
    whole = task.loss(
        task.model, task.valid_windows.batch(torch.arange(len(task.valid_windows))), 0
    )
    assert task.evaluate() == {"valid_loss": pytest.approx(whole.loss.item(), rel=1e-6)}
    assert _task(valid_fraction=0.0).evaluate() == {}


def test_what_a_run_needs_to_be_the_same():
    def print_of(series=None, **settings):
        task = _task(**settings)
        return ForecastTask([series or _series()], task.settings, batch=7).fingerprint()

    assert print_of() == json.loads(json.dumps(print_of()))
    assert print_of() != print_of(lags=5)
    assert print_of() != print_of(_series(seed=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 30}, "at least 30 steps, the horizon, in the test part of a series, got 12"),
        ({"lags": 50}, "54 steps, the lags and .*in the training part of a series, got 42"),
        ({"horizon": 0}, "horizon: expected at least 1, got 0"),
        ({"levels": (0.1, 0.9)}, "rising levels .* with 0.5 in their middle, got 0.1, 0.9"),
        ({"levels": (0.9, 0.5, 0.1)}, "rising levels"),
        ({"levels": (0.0, 0.5, 1.0)}, "above 0 and below 1"),
        ({"strategy": "both"}, "strategy: expected one of rollout, direct, got 'both'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    if "lags" in settings:
        settings = settings | {"horizon": 4, "strategy": "direct"}
    with pytest.raises(SeriesError, match=message):
        _task(**settings)


def test_settings_survive_json():
    settings = _task(levels=(0.1, 0.5, 0.9)).settings
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


# --- judging -------------------------------------------------------------------------------------


def test_all_methods_forecast_the_same_steps():
    task = _task(season=4, strategy="direct")
    judged = judge(task, order=2)
    assert list(judged.methods) == ["persistence", "season of 4", "AR(2)", "network"]
    values = task.series[0].target
    assert judged.origins.tolist() == list(range(48, 58))
    for row, origin in enumerate(judged.origins):
        assert judged.actual[row].tolist() == values[origin : origin + 3].tolist()
        assert judged.methods["persistence"][row].tolist() == [values[origin - 1]] * 3
        expected = values[origin - 4 : origin - 1].tolist()
        assert judged.methods["season of 4"][row].tolist() == expected
    naive = np.abs(values[4:42] - values[:38]).mean()
    errors = judged.errors()
    for name in judged.methods:
        assert errors[name]["mase"] == pytest.approx(np.array(errors[name]["mae"]) / naive)


def test_series_of_different_levels_are_judged_on_their_own_scale():
    near, far = _series(seed=1).target, 1000 + 100 * _series(seed=2).target
    settings = Settings(lags=3, horizon=2, kind="linear", residual=True)
    task = ForecastTask([from_values(near, "near"), from_values(far, "far")], settings)
    for parameter in task.model.parameters():
        nn.init.zeros_(parameter)
    judged = judge(task)
    assert judged.methods["network"] == pytest.approx(judged.methods["persistence"], rel=1e-4)
    assert (judged.series_of == np.repeat([0, 1], 11)).all()
    assert judged.scale[0] == np.abs(np.diff(near[:42])).mean()


def test_the_table_names_methods_and_horizons():
    task = _task(strategy="direct", levels=(0.1, 0.5, 0.9))
    text = table(judge(task), [1, 3])
    assert "1 ahead" in text
    assert "3 ahead" in text
    for word in ("MAE", "RMSE", "MASE", "persistence", "AR(4)", "network", "in the 80 % interval"):
        assert word in text
    assert [shown_horizons(k) for k in (1, 4, 12, 64)] == [[1], [1, 4], [1, 4, 12], [1, 4, 16, 64]]


def test_a_season_that_reaches_back_too_far():
    with pytest.raises(SeriesError, match=r"expected 50 steps before the test part .* got 48"):
        judge(_task(season=50))
