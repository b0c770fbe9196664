"""The tasks in the training loop: losses, weights, padding, resuming batches, learning."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from fusedrnn.tasks.label import ClassifyTask, LabelError, SequenceLabeller, TagTask, class_weights
from fusedrnn.tasks.label.memory import (
    MemoryTask,
    adding,
    adding_floor,
    copying,
    copying_floor,
)
from fusedrnn.tasks.label.readers import TextReader, WordReader
from fusedrnn.train import Settings, train

TEXTS = [("good fine good", "pos"), ("bad", "neg"), ("bad awful", "neg"), ("fine", "pos")]
SENTENCES = [(("a", "b", "c"), ("X", "Y", "X")), (("b",), ("Y",)), (("c", "a"), ("X", "X"))]


def _classify(weights=None, valid=(), **options):
    torch.manual_seed(0)
    reader = TextReader.learn([text for text, _ in TEXTS], "word")
    inputs = {"kind": "tokens", "tokens": len(reader.vocab), "embedding": 4}
    model = SequenceLabeller(inputs, 2, "mean", hidden=8)
    return ClassifyTask(
        model, reader, ["neg", "pos"], TEXTS, valid, weights=weights, **{"batch": 4, **options}
    )


def _tag(weights=None, valid=(), **options):
    torch.manual_seed(0)
    reader = WordReader.learn(words for words, _ in SENTENCES)
    inputs = {"kind": "words", "words": 4, "chars": 4, "embedding": 4}
    model = SequenceLabeller({**inputs, "char_embedding": 2, "char_hidden": 2}, 2, None, hidden=8)
    return TagTask(
        model, reader, ["X", "Y"], SENTENCES, valid, weights=weights, **{"batch": 3, **options}
    )


def _alone(task, examples):
    """Log-probabilities and classes of every label, each example by itself."""
    scores, classes = [], []
    for item, targets in task.labeller.encode(examples):
        logits = task.model(task.labeller.reader.batch([item]), torch.tensor([len(item)]))
        scores.append(logits.flatten(0, -2).log_softmax(-1))
        classes.append(targets.reshape(-1))
    return torch.cat(scores), torch.cat(classes)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0])])
@pytest.mark.parametrize(("make", "examples"), [(_classify, TEXTS), (_tag, SENTENCES)])
def test_the_loss_is_the_weighted_mean_over_labels_without_padding(make, examples, weights):
    task = make(weights)
    batch = task.labeller.batch(task.labeller.encode(examples))  # no word unknown by chance
    step = task.loss(task.model, batch, None)
    scores, classes = _alone(task, examples)
    each = -scores.gather(1, classes[:, None])[:, 0]
    share = torch.ones(2)[classes] if weights is None else weights[classes]
    expected = (each * share).sum() / share.sum()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert step.count == len(classes)
    assert step.total.item() == pytest.approx(expected.item() * len(classes), rel=1e-5)
    assert step.loss.requires_grad
    assert not step.total.requires_grad


def test_balanced_weights():
    assert class_weights("none", ["a"], ["a", "b"]) is None
    weights = class_weights("balanced", ["a", "a", "a", "b"], ["a", "b", "c"])
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 1.0])
    nested = class_weights("balanced", [("a", "a"), ("a", "b")], ["a", "b", "c"])
    assert torch.equal(weights, nested)
    with pytest.raises(LabelError, match="expected one of none, balanced, got 'inverse'"):
        class_weights("inverse", ["a"], ["a"])


@pytest.mark.parametrize("make", [_classify, _tag])
def test_batches_can_be_taken_up_anywhere(make):
    task = make(batch=1)
    assert task.updates(0) == len(list(task.batches(0)))
    for epoch in (0, 1):
        whole = list(task.batches(epoch))
        for skip in range(len(whole) + 1):
            rest = list(make(batch=1).batches(epoch, skip))
            assert len(rest) == len(whole) - skip
            for ours, theirs in zip(rest, whole[skip:], strict=True):
                assert torch.equal(ours.targets, theirs.targets)
                pairs = zip(ours.inputs, theirs.inputs, strict=True)
                assert all(torch.equal(left, right) for left, right in pairs)


def test_chance_is_drawn_anew_in_every_batch():
    words = tuple(f"w{i}" for i in range(80))
    reader = WordReader.learn([words, words])
    inputs = {"kind": "words", "words": 81, "chars": 12, "embedding": 4}
    model = SequenceLabeller({**inputs, "char_embedding": 2, "char_hidden": 0}, 2, None, hidden=2)
    task = TagTask(model, reader, ["X", "Y"], [(words, ("X",) * 80)] * 2, batch=1)
    one, two = (batch.inputs.ids for batch in task.batches(0))
    assert 0 < (one == 0).sum() < 40
    assert not torch.equal(one, two)


def test_evaluation():
    task = _tag(valid=SENTENCES[:2])
    metrics = task.evaluate()
    scores, classes = _alone(task, SENTENCES[:2])
    assert metrics["valid_loss"] == pytest.approx(F.nll_loss(scores, classes).item(), rel=1e-5)
    right = (scores.argmax(-1) == classes).float().mean().item()
    assert metrics["valid_accuracy"] == pytest.approx(right)
    assert set(metrics) == {"valid_loss", "valid_accuracy", "valid_macro_f1"}
    assert task.model.training
    assert _tag().evaluate() == {}


@pytest.mark.parametrize("make", [_classify, _tag])
def test_a_small_file_is_learnt_by_heart(make):
    task = make(valid=SENTENCES if make is _tag else TEXTS)
    result = train(task, Settings(epochs=60, lr=0.05))
    assert result.history[-1]["valid_accuracy"] == 1.0
    if make is _tag:
        answers = task.labeller.tag([words for words, _ in SENTENCES])
        assert [tuple(each) for each in answers] == [tags for _, tags in SENTENCES]
    else:
        answers = task.labeller.classify([text for text, _ in TEXTS])
        assert [label for label, _ in answers] == [label for _, label in TEXTS]
        assert all(0.5 < probability <= 1.0 for _, probability in answers)


def test_what_a_checkpoint_says_is_json_and_what_a_run_is():
    task = _tag()
    assert json.loads(json.dumps(task.describe()))["labels"] == ["X", "Y"]
    same, other = _tag().fingerprint(), _tag(seed=1).fingerprint()
    assert task.fingerprint() == same != other
    assert _tag(valid=SENTENCES).fingerprint() != same
    assert _tag(torch.ones(2)).fingerprint() != same


def test_labels_and_texts_that_do_not_serve():
    with pytest.raises(LabelError, match="expected one of 2 known labels, got 'Z'"):
        _tag(valid=[(("a",), ("Z",))])
    with pytest.raises(LabelError, match="expected a text with words in it, got none"):
        _classify(valid=[(" ", "pos")])
    task = _tag()
    with pytest.raises(LabelError, match="expected examples to train on, got none"):
        TagTask(task.model, task.labeller.reader, ["X", "Y"], [])
    with pytest.raises(LabelError, match="expected 2 different labels, got 1"):
        TagTask(task.model, task.labeller.reader, ["X"], SENTENCES)


# --- memory --------------------------------------------------------------------------------------


def test_the_adding_problem():
    x, sums = adding(10, 5000, torch.Generator().manual_seed(0))
    values, marks = x.unbind(-1)
    assert marks[:5].sum(0).eq(1).all()
    assert marks[5:].sum(0).eq(1).all()
    torch.testing.assert_close((values * marks).sum(0), sums)
    assert values.min() >= 0
    assert values.max() < 1
    assert (marks.sum(1) > 800).all()  # every place is marked now and then
    assert ((sums - 1) ** 2).mean().item() == pytest.approx(adding_floor(), rel=0.05)


def test_copy_memory():
    ids, targets = copying(7, 300, torch.Generator().manual_seed(0))
    assert ids.shape == targets.shape == (27, 300)
    assert torch.equal(targets[-10:], ids[:10])
    assert ids[:10].unique().tolist() == list(range(1, 9))
    assert (ids[16] == 9).all()
    assert ids[10:16].count_nonzero() == ids[17:].count_nonzero() == 0
    assert targets[:-10].count_nonzero() == 0
    # Blanks for certain, then each of eight symbols equally likely.
    scores = torch.full((27, 300, 9), -torch.inf)
    scores[:17, :, 0] = 0.0
    scores[17:, :, 1:] = 0.0
    loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten()).item()
    assert loss == pytest.approx(copying_floor(7), rel=1e-5)


@pytest.mark.parametrize("problem", ["adding", "copying"])
def test_memory_tasks(problem):
    task = MemoryTask(problem, 5, hidden=8, batch=4, updates=6, held_out=300)
    drawn = [x for x, _ in task.batches(0)]
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == 6
    (again, _), *rest = task.batches(0, 4)
    assert torch.equal(again, drawn[4])
    assert len(rest) == 1
    assert not torch.equal(next(iter(task.batches(1)))[0], drawn[0])
    assert task.evaluate()["valid_loss"] == task.evaluate()["valid_loss"]
    json.dumps([task.describe(), task.fingerprint()])
    with pytest.raises(ValueError, match="problem: expected adding or copying, got 'xor'"):
        MemoryTask("xor", 5)
    with pytest.raises(ValueError, match="steps: expected at least 2, got 1"):
        MemoryTask(problem, 1)


def test_short_sums_are_learnt():
    task = MemoryTask("adding", 10, "gru", 32, batch=64, updates=300)
    result = train(task, Settings(epochs=2, lr=0.01))
    assert result.history[-1]["valid_loss"] < 0.02 < task.floor
