"""The task: its loss against the textbook's definition, its batches, its metrics, its description."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from fusedrnn.tasks.translate.addition import addition_pairs
from fusedrnn.tasks.translate.batches import pad
from fusedrnn.tasks.translate.build import build_task
from fusedrnn.tasks.translate.codec import END, START
from fusedrnn.tasks.translate.pairs import PairsError
from fusedrnn.tasks.translate.predict import Translator
from fusedrnn.tasks.translate.task import Forcing, HeldOut

PAIRS = [
    ("Go.", "Va !"),
    ("Run!", "Cours !"),
    ("I lost.", "J'ai perdu."),
    ("I'm home.", "Je suis chez moi."),
    ("I lost.", "Je suis perdu."),
    ("I go home.", "Je vais chez moi."),
]
SMALL = {"hidden": 12, "embedding": 8}


def _task(pairs=PAIRS, **options):
    return build_task(pairs, **{**SMALL, "batch": 4, **options})


def _learn(task, epochs, lr=0.01):
    optimizer = torch.optim.Adam(task.model.parameters(), lr)
    task.model.train()
    for epoch in range(epochs):
        for batch in task.batches(epoch):
            step = task.loss(task.model, batch, None)
            optimizer.zero_grad()
            step.loss.backward()
            torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
            optimizer.step()
    return step


@pytest.mark.parametrize("attention", ["none", "additive"])
def test_the_loss_is_the_textbook_s_masked_one(attention):
    """Summed over the sentences the mean of ten steps, padding zeroed, over all tokens: times ten
    that is the mean over tokens that we give."""
    task = _task(attention=attention, max_length=10)
    task.model.eval()
    (batch,) = list(task.batches(0))[:1]
    step = task.loss(task.model, batch, None)
    textbook = 0.0
    for b, length in enumerate(batch.lengths.tolist()):
        row = slice(b, b + 1)
        logits = task.model(
            batch.source[:, row],
            batch.source_lengths[row],
            batch.inputs[:, row],
            batch.lengths[row],
        )
        steps = torch.zeros(10)
        steps[:length] = F.cross_entropy(logits, batch.labels[:length, b], reduction="none")
        textbook += steps.mean().item()
    tokens = int(batch.lengths.sum())
    assert step.count == tokens
    assert step.total.item() / tokens == pytest.approx(step.loss.item())
    assert textbook / tokens * 10 == pytest.approx(step.loss.item(), rel=1e-5)
    assert step.loss.requires_grad
    assert not step.total.requires_grad


def test_batches_go_on_where_they_were_broken_off():
    task = _task(forcing=Forcing(0.2, "linear", 5))
    for epoch in range(2):
        whole = list(task.batches(epoch))
        assert len(whole) == task.updates(epoch) == 2
        (last,) = task.batches(epoch, skip=1)
        assert last.truth == whole[1].truth
        assert torch.equal(last.labels, whole[1].labels)
    assert [b.truth for b in task.batches(0)] == [1.0, pytest.approx(1 - 0.8 * 0.1)]


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "none", "layers": 2},
        {"attention": "dot", "cell": "lstm"},
        {"attention": "additive", "feed": "before"},
        {"attention": "bilinear", "bidirectional": True, "reverse": True},
        {"attention": "bilinear", "forcing": Forcing(0.5)},
        {"attention": "additive", "tokens": "bpe", "pieces": 300},
    ],
    ids=str,
)
def test_a_small_model_learns_its_pairs_by_heart(options):
    if options.get("tokens") == "bpe":
        pytest.importorskip("tokenizers")
    once = dict(PAIRS)
    task = _task(list(once.items()), hidden=32, **options)
    _learn(task, 60, lr=0.02)
    translator = task.translator
    for width in (1, 3):
        found = translator.translate(list(once), width=width)
        assert found == [translator.target.text(target) for target in once.values()]


def test_held_out_sentences_are_judged_once_with_all_their_references():
    task = _task(PAIRS * 2, valid_fraction=0.5)
    held = task.held_out
    assert len(held.sources) == len(set(held.sources))
    scores = task.evaluate()
    assert set(scores) >= {"valid_loss", "valid_exact"}
    by_hand = []
    valid = [pair for pair in PAIRS * 2 if task.translator.source.text(pair[0]) in held.sources]
    model, target = task.model.eval(), task.translator.target
    for source, label in valid:
        indices = target.encode(label)
        rows, lengths = pad([task.translator.encode(source)])
        inputs = torch.tensor([START, *indices[:-1]]).unsqueeze(1)
        with torch.no_grad():
            logits = model(rows, lengths, inputs, torch.tensor([len(indices)]))
        by_hand += F.cross_entropy(logits, torch.tensor(indices), reduction="none").tolist()
    assert scores["valid_loss"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)


def test_exact_counts_any_reference():
    held = HeldOut(["a", "b", "c", "d"], [["x", "y"], ["z"], ["z"], ["z"]])
    assert held.scores(["y", "z", "no", "no"])["exact"] == 0.5


def test_evaluation_leaves_the_model_in_training():
    task = _task(valid_fraction=0.3)
    task.model.train()
    task.evaluate()
    assert task.model.training
    assert _task().evaluate() == {}
    assert len(task.samples(2)) <= 2
    assert all(" -> " in line for line in task.samples(2))


def test_a_description_rebuilds_the_translator(tmp_path):
    task = _task(attention="dot", reverse=True, max_length=5)
    _learn(task, 20)
    about = json.loads(json.dumps(task.describe()))
    again = Translator.from_description(about, task.model.state_dict())
    sentences = [source for source, _ in PAIRS]
    assert again.translate(sentences, width=2) == task.translator.translate(sentences, width=2)
    about["target"]["vocab"]["tokens"].pop()
    about["target"]["vocab"]["counts"].pop()
    with pytest.raises(ValueError, match="expected vocabularies of"):
        Translator.from_description(about, task.model.state_dict())


def test_a_fingerprint_is_of_what_shapes_the_batches():
    same = _task().fingerprint()
    assert same == _task(hidden=16, forcing=Forcing(epochs=7)).fingerprint()
    for other in (
        _task(PAIRS[:-1]),
        _task(batch=3),
        _task(seed=1),
        _task(reverse=True),
        _task(forcing=Forcing(0.5)),
        _task(valid_fraction=0.2),
    ):
        assert other.fingerprint() != same
    falling = [_task(forcing=Forcing(0.5, "linear", n)).fingerprint() for n in (5, 6)]
    assert falling[0] != falling[1]


def test_sources_are_read_backwards_where_asked():
    task = _task([("ab", "x"), ("abc", "y")], tokens="char", reverse=True)
    codec = task.translator.source
    assert task.translator.encode("abc") == [*map(codec.vocab.index, "cba"), END]


def test_translations_do_not_depend_on_their_company():
    task = _task(list(addition_pairs(60, 1)), tokens="char", hidden=16)
    _learn(task, 5)
    sentences = [source for source, _ in addition_pairs(60, 1)]
    together = task.translator.search(sentences, width=3)
    apart = task.translator.search(sentences, width=3, batch=7)
    for one, other in zip(together, apart, strict=True):
        assert one[0].tokens == other[0].tokens
        assert one[0].score == pytest.approx(other[0].score, rel=1e-4)


def test_attention_of_a_translation():
    task = _task(attention="dot")
    _learn(task, 5)
    translator = task.translator
    ((found,),) = translator.search(["I lost."])
    attended = translator.attention("I lost.", found)
    assert attended.source == ["i", "lost", ".", "<eos>"]
    assert attended.target[-1] == "<eos>"
    assert attended.weights.shape == (len(attended.target), 4)
    assert torch.allclose(attended.weights.sum(1), torch.ones(len(attended.target)))


def test_settings_that_cannot_be_are_refused():
    for options in ({"tokens": "runes"}, {"attention": "x"}, {"valid_fraction": 1.0}):
        with pytest.raises(ValueError, match="expected"):
            _task(**options)
    with pytest.raises(PairsError, match="expected sentences to train on"):
        _task([("a", "b")], valid_fraction=0.5)
