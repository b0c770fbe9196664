"""Cuts of the gradient: random ones are right on average, to the last digit."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from fusedrnn import _ops
from fusedrnn.lm import LanguageModel, LanguageModelTask
from fusedrnn.lm import task as module
from fusedrnn.lm.truncation import crossing, probability, stretches
from fusedrnn.train import Settings, Trainer

V, B, STEPS, CHUNKS = 5, 2, 3, 4


def _ids(tokens=B * STEPS * CHUNKS + 1):
    return torch.randint(V, (tokens,), generator=torch.Generator().manual_seed(2))


def _task(cell="lstm", **options):
    torch.manual_seed(0)
    model = LanguageModel(V, cell, hidden=4, layers=2).double()
    with torch.no_grad():  # states that matter for long
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return LanguageModelTask(model, _ids(), batch=B, steps=STEPS, same_start=True, **options)


def _gradient(task):
    """Of one epoch without updates: the gradients of its updates, added up."""
    task.model.zero_grad()
    carried = None
    for batch in task.batches(0):
        step = task.loss(task.model, batch, carried)
        step.loss.backward()
        carried = step.carried
    return torch.cat([each.grad.flatten() for each in task.model.parameters()])


def _whole_gradient(task):
    """Of the loss summed over the steps of the whole stream, mean over rows, in one call."""
    task.model.zero_grad()
    stream = _ids()[:-1].view(B, -1).t()
    labels = _ids()[1:].view(B, -1).t()
    logits, _ = task.model(stream)
    (F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / B).backward()
    return torch.cat([each.grad.flatten() for each in task.model.parameters()])


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("cut", [0.2, 0.7])
def test_random_truncation_is_unbiased(cell, cut, monkeypatch):
    """The expectation over all ways to cut, each with its probability, is the full gradient."""
    task = _task(cell, truncation="random", cut=cut, summed=True)
    expected = _whole_gradient(task)
    mean = torch.zeros_like(expected)
    for cuts in itertools.product([False, True], repeat=CHUNKS - 1):
        ends = [i + 1 for i, each in enumerate(cuts) if each] + [CHUNKS]
        plan = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        monkeypatch.setattr(module, "stretches", lambda *_, plan=plan: plan)
        weight = math.prod(cut if each else 1 - cut for each in cuts)
        mean += weight * _gradient(task)
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_full_is_the_gradient_of_the_whole_and_fixed_is_not(cell):
    full = _task(cell, truncation="full", summed=True)
    expected = _whole_gradient(full)
    torch.testing.assert_close(_gradient(full), expected, rtol=1e-10, atol=1e-12)
    fixed = _gradient(_task(cell, summed=True))
    assert (fixed - expected).norm() > 0.01 * expected.norm()


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, STEPS),
        ({"truncation": "full"}, STEPS * CHUNKS),
        ({"truncation": "random", "cut": 0.25}, STEPS / 0.25),
    ],
)
def test_the_mean_loss_is_the_summed_one_by_the_expected_length(options, factor):
    mean, summed = _gradient(_task(**options)), _gradient(_task(**options, summed=True))
    torch.testing.assert_close(mean * factor, summed, rtol=1e-10, atol=1e-14)


def test_the_reported_loss_is_the_mean_over_all_tokens_in_any_case():
    losses = []
    for options in ({}, {"truncation": "full"}, {"truncation": "random", "cut": 0.4}):
        for summed in (False, True):
            task = _task(**options, summed=summed)
            trainer = Trainer(task, Settings(epochs=1, optimizer="sgd", lr=0.0))
            (record,) = trainer.epochs()
            assert record["tokens"] == B * STEPS * CHUNKS
            losses.append(record["loss"])
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-12)


def test_stretches_are_drawn_once_and_for_all():
    lengths = stretches(10_000, 0.25, 3, 0)
    assert sum(lengths) == 10_000
    assert min(lengths) == 1
    assert 10_000 / len(lengths) == pytest.approx(4, rel=0.05)
    # Geometric: a stretch ends after one chunk with probability cut.
    assert lengths.count(1) / len(lengths) == pytest.approx(0.25, abs=0.03)
    assert stretches(10_000, 0.25, 3, 0) == lengths
    assert stretches(10_000, 0.25, 3, 1) != lengths
    assert stretches(10_000, 0.25, 4, 0) != lengths
    assert (stretches(7, 1.0, 0, 0), stretches(7, 0.0, 0, 0)) == ([1] * 7, [7])
    assert stretches(0, 0.0, 0, 0) == []


def test_a_crossing_changes_the_gradient_alone():
    state = (torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True))
    after = crossing(state, 0.75)
    assert all(torch.equal(one, other) for one, other in zip(state, after, strict=True))
    sum(each.sum() for each in after).backward()
    assert all(torch.equal(each.grad, torch.full((2, 3), 4.0)) for each in state)


def test_batches_from_the_middle_are_those_that_would_have_come():
    task = _task(truncation="random", cut=0.5)
    for epoch in range(4):
        whole = list(task.batches(epoch))
        assert len(whole) == task.updates(epoch)
        for skip in range(len(whole) + 1):
            rest = list(task.batches(epoch, skip))
            assert len(rest) == len(whole) - skip
            for one, other in zip(rest, whole[skip:], strict=True):
                assert all(torch.equal(one[side], other[side]) for side in (0, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "none"}, "truncation: expected one of fixed, random, full, got 'none'"),
        ({"truncation": "random", "cut": 0.0}, "cut: expected a probability above 0"),
        ({"truncation": "full", "order": "random"}, "truncation: expected 'fixed' in random order"),
        ({"same_start": True, "order": "random"}, "same_start: expected sequential order"),
    ],
)
def test_what_cannot_be(options, message):
    model = LanguageModel(V, hidden=4)
    with pytest.raises(ValueError, match=message):
        LanguageModelTask(model, _ids(), batch=B, steps=STEPS, **options)
    assert probability("fixed", 0.0) == 1.0


@pytest.mark.parametrize("truncation", ["fixed", "random", "full"])
def test_losses_that_wait_for_one_backward_keep_no_gradient_of_the_head(truncation, monkeypatch):
    asked, op = [], _ops.linear_cross_entropy
    monkeypatch.setattr(
        _ops, "linear_cross_entropy", lambda *args: (asked.append(args[-3:]), op(*args))[1]
    )
    _gradient(_task(truncation=truncation))
    assert asked == ([(True, True, True)] * CHUNKS if truncation == "fixed" else [])
