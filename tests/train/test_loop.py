"""The loop against one written out by hand, and every setting's effect."""

from __future__ import annotations

import copy
import math
import os
import signal
import threading

import pytest
import torch
from torch import nn

from fusedrnn.train import DivergedError, RunFolder, Settings, SettingsError, Trainer, train
from fusedrnn.train.gradients import clip, global_norm
from fusedrnn.train.metrics import read_metrics


def _parameters(task):
    return torch.cat([each.detach().flatten() for each in task.model.parameters()])


def _by_hand(task, epochs, lr, limit, accumulate=1):
    """Plain torch: losses of the batches, norms of the updates."""
    optimizer = torch.optim.SGD(task.model.parameters(), lr=lr)
    losses, norms = [], []
    for epoch in range(epochs):
        task.model.train()
        state = None
        batches = list(task.batches(epoch))
        for begin in range(0, len(batches), accumulate):
            group = batches[begin : begin + accumulate]
            optimizer.zero_grad()
            for batch in group:
                outputs, state = task.model(batch, state)
                state = state.detach()
                loss = nn.functional.mse_loss(outputs, batch.cumsum(0))
                (loss / len(group)).backward()
                losses.append(loss.item())
            norms.append(nn.utils.clip_grad_norm_(task.model.parameters(), limit).item())
            optimizer.step()
    return losses, norms


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_the_loop_is_the_one_written_out(make_task, accumulate):
    task, twin = make_task(), make_task()
    seen = []
    settings = Settings(
        epochs=3, optimizer="sgd", lr=0.1, clip=0.5, accumulate=accumulate, save_every_s=1e9
    )
    result = train(task, settings, on_step=seen.append)
    losses, norms = _by_hand(twin, 3, 0.1, 0.5, accumulate)
    torch.testing.assert_close(_parameters(task), _parameters(twin), rtol=1e-9, atol=1e-12)
    assert [float(update.norm) for update in seen] == pytest.approx(norms, rel=1e-9)
    means = [math.fsum(losses[i : i + 6]) / 6 for i in (0, 6, 12)]
    assert [record["loss"] for record in result.history] == pytest.approx(means, rel=1e-12)
    assert [update.update for update in seen] == list(range(1, 1 + 3 * -(-6 // accumulate)))
    record = result.history[-1]
    own = norms[-(len(norms) // 3) :]
    assert record["numbers"] == 6 * 20
    assert record["numbers_per_s"] == pytest.approx(120 / record["seconds"])
    assert record["grad_norm"] == pytest.approx(math.fsum(own) / len(own))
    assert record["largest_grad_norm"] == pytest.approx(max(own))
    assert record["valid_loss"] == task.evaluate()["valid_loss"]
    assert "perplexity" not in record


def test_clipping_by_value_comes_before_clipping_by_norm():
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([3.0, -4.0, 0.5, 0.0])
    assert float(clip([parameter], 0.0, 1.0)) == pytest.approx(1.5)
    assert parameter.grad.tolist() == [1.0, -1.0, 0.5, 0.0]
    clip([parameter], 0.3)
    assert float(parameter.grad.norm()) == pytest.approx(0.3, rel=1e-5)


def test_the_norm_is_that_of_all_entries_in_any_mix_of_dtypes():
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=generator) for shape in [(3, 4), (5,), ()]]
    expected = torch.cat([each.flatten() for each in gradients]).norm()
    torch.testing.assert_close(global_norm(gradients), expected)
    gradients[1] = gradients[1].double()
    torch.testing.assert_close(global_norm(gradients).float(), expected)
    assert global_norm([]) == 0


def test_the_norm_has_no_history():
    gradients = [torch.tensor([3.0, 4.0], requires_grad=True)]
    for each in (gradients, [*gradients, torch.zeros(2, dtype=torch.float64)]):
        norm = global_norm(each)
        assert norm == 5
        assert not norm.requires_grad


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.02},
        {"optimizer": "sgd"},
        {"weight_decay": 0.1},
        {"schedule": "cosine"},
        {"schedule": "exponential"},
        {"schedule": "step"},
        {"warmup": 5},
        {"clip": 0.01, "optimizer": "sgd", "lr": 0.01},
        {"clip_value": 0.001},
        {"accumulate": 2},
        {"autocast": True},
    ],
)
def test_every_setting_changes_the_run(make_task, changes):
    def run(**more):
        task = make_task(dtype=torch.float32)
        train(task, Settings(**{"epochs": 3, "lr": 0.01, **more}))
        return _parameters(task)

    assert not torch.equal(run(), run(**changes))
    if "clip" in changes:
        assert not torch.equal(run(**changes), run(**{**changes, "clip": 1.0}))


def test_patience_ends_a_run_that_gets_no_better(make_task):
    result = train(make_task(), Settings(epochs=50, optimizer="sgd", lr=0.0, patience=3))
    assert len(result.history) == 4
    assert result.stopped == "no improvement in 3 epochs"
    assert not result.interrupted
    with_less = train(
        make_task(valid=False), Settings(epochs=9, optimizer="sgd", lr=0.0, patience=3)
    )
    assert len(with_less.history) == 4


def test_a_plateau_halves_the_rate(make_task):
    settings = Settings(epochs=7, optimizer="sgd", lr=1e-30, schedule="plateau", plateau=1)
    result = train(make_task(), settings)
    # The first epoch is the best; each second one after it that is no better halves the rate.
    assert [record["lr"] / 1e-30 for record in result.history] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_ends_the_run_before_a_parameter_sees_it(make_task, tmp_path, where):
    task = make_task()
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    before = []

    def poison(update):
        if update.update == 8:
            before.append(_parameters(task))
            if where == "loss":
                task.data[2].mul_(math.nan)
            else:
                task.model.head.weight.register_hook(lambda gradient: gradient * math.inf)

    message = (
        rf"epoch 2, update 9: expected a finite {where}.*\(loss .*, gradient norm .*, learning rate "
        r"0.1\).*checkpoint.safetensors holds the run after update [78], epoch 1"
    )
    settings = Settings(epochs=3, optimizer="sgd", lr=0.1, save_every_s=0)
    with pytest.raises(DivergedError, match=message):
        train(task, settings, folder, on_step=poison)
    assert torch.equal(_parameters(task), before[0])


def test_an_epoch_whose_numbers_json_has_not_is_a_divergence(make_task, tmp_path):
    task = make_task()
    task.evaluate = lambda: {"valid_loss": math.inf}
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    with pytest.raises(
        DivergedError, match=r"epoch 1: expected a finite valid loss, got inf.*no chec"
    ):
        train(task, Settings(epochs=2), folder)
    assert list(read_metrics(folder.metrics)) == []


def test_an_optimizer_of_ones_own(make_task):
    task, twin = make_task(), make_task()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
    for _ in Trainer(task, Settings(epochs=2), optimizer=optimizer).epochs():
        pass
    train(twin, Settings(epochs=2, optimizer="sgd", lr=0.1))
    assert not torch.equal(_parameters(task), _parameters(twin))


def test_a_model_with_nothing_to_train(make_task):
    task = make_task()
    task.model.requires_grad_(False)
    with pytest.raises(ValueError, match="expected parameters to train"):
        train(task, Settings(epochs=1))


def test_a_signal_ends_the_run_after_the_update_and_a_second_at_once(make_task):
    def send(update):
        if update.update == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    result = train(make_task(), Settings(epochs=3), on_step=send)
    assert (result.interrupted, len(result.history)) == (True, 1)
    assert signal.getsignal(signal.SIGTERM) is before

    def insist(update):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(make_task(), Settings(epochs=3), on_step=insist)
    assert signal.getsignal(signal.SIGTERM) is before


def test_training_outside_the_main_thread(make_task):
    results = []
    work = threading.Thread(target=lambda: results.append(train(make_task(), Settings(epochs=1))))
    work.start()
    work.join()
    assert len(results[0].history) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number >= 1, got 0"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of .*sgd, got 'lbfgs'"),
        ({"schedule": "linear"}, "schedule: expected one of constant, .*, got 'linear'"),
        ({"lr": -1.0}, "lr: expected a finite number >= 0, got -1.0"),
        ({"clip": math.inf}, "clip: expected a finite number >= 0, got inf"),
        ({"accumulate": 0}, "accumulate: expected a whole number >= 1, got 0"),
        ({"patience": 0}, "patience: expected a whole number >= 1, got 0"),
        ({"keep": True}, "keep: expected a whole number >= 1, got True"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**{"epochs": 1, **changes})


def test_samples_and_steps_are_written_where_asked_for(make_task, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    train(make_task(), Settings(epochs=2, log_every=5, samples=2), folder)
    samples = list(read_metrics(folder.samples))
    assert samples == [
        {"epoch": epoch, "text": f"sample {number}"} for epoch in (1, 2) for number in (0, 1)
    ]
    steps = list(read_metrics(folder.steps))
    assert [(step["epoch"], step["update"]) for step in steps] == [(1, 5), (2, 10)]
    assert set(steps[0]) == {"epoch", "update", "loss", "grad_norm", "lr"}


def test_parameters_that_are_shared_are_written_once(make_task, tmp_path):
    task = make_task()
    task.model.second = task.model.head
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    train(task, Settings(epochs=1), folder)
    other = make_task()
    other.model.second = other.model.head
    train(other, Settings(epochs=2), folder, resume=True)
    once = copy.deepcopy(make_task())
    once.model.second = once.model.head
    train(once, Settings(epochs=2))
    assert torch.equal(_parameters(other), _parameters(once))
