"""The model and its scores: ragged rows, pools, words, and the metrics against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.label import (
    Scores,
    SequenceLabeller,
    confusion,
    majority_floor,
    word_floor,
)
from fusedrnn.tasks.label.model import POOLS, pooled
from fusedrnn.tasks.label.readers import WordReader

LENGTHS = torch.tensor([5, 2, 7, 1])
FEATURES = {"kind": "features", "size": 3}


def _model(inputs=FEATURES, outputs=4, pool="last", **options):
    torch.manual_seed(0)
    return SequenceLabeller(inputs, outputs, pool, **{"hidden": 6, **options}).double()


def _padded(fill):
    """Rows of `LENGTHS` steps, and ``fill`` behind them: ``[7, 4, 3]``."""
    x = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(1)).double()
    for row, length in enumerate(LENGTHS.tolist()):
        x[length:, row] = fill
    return x


@pytest.mark.parametrize("pool", [*POOLS, None])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_row_in_a_batch_is_the_row_alone(cell, bidirectional, pool):
    model = _model(pool=pool, cell=cell, bidirectional=bidirectional, layers=2)
    logits = model(_padded(9.0), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(_padded(0.0)[:length, row : row + 1])
        own = logits[row] if pool else logits[:length, row]
        torch.testing.assert_close(own, alone[0] if pool else alone[:, 0])


@pytest.mark.parametrize("pool", [*POOLS, None])
def test_no_gradient_reaches_padding(pool):
    x = _padded(1.0).requires_grad_()
    logits = _model(pool=pool, bidirectional=True)(x, LENGTHS)
    valid = torch.arange(7)[:, None] < LENGTHS
    (logits if pool else logits[valid]).sum().backward()
    assert x.grad[~valid].count_nonzero() == 0
    assert (x.grad[valid] != 0).any(-1).all() or pool in ("max",)


@pytest.mark.parametrize("kind", ["lstm", "gru", "elman"])
def test_it_is_torch_nn_between_embedding_and_head(kind):
    inputs = {"kind": "tokens", "tokens": 9, "embedding": 5}
    model = _model(inputs, cell=kind, bidirectional=True)
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU, "elman": nn.RNN}[kind](5, 6, bidirectional=True)
    theirs.double().load_state_dict(model.rnn.state_dict())
    ids = torch.randint(9, (7, 4))
    packed = nn.utils.rnn.pack_padded_sequence(
        model.inputs.embedding(ids), LENGTHS, enforce_sorted=False
    )
    state = theirs(packed)[1]
    last = state[0] if kind == "lstm" else state
    expected = model.head(torch.cat([last[0], last[1]], -1))
    torch.testing.assert_close(model(ids, LENGTHS), expected)


def test_one_hot_tokens_are_their_indices():
    model = _model({"kind": "tokens", "tokens": 9, "embedding": 0}, pool=None)
    ids = torch.randint(9, (5, 2))
    as_rows = model.rnn(nn.functional.one_hot(ids, 9).double())[0]
    torch.testing.assert_close(model(ids), model.head(as_rows))


def test_pools_of_empty_rows_are_zero():
    y = torch.randn(3, 2, 4) - 5
    lengths = torch.tensor([0, 3])
    for how in ("mean", "max"):
        out = pooled(y, lengths, how)
        assert out[0].count_nonzero() == 0
        torch.testing.assert_close(out[1], pooled(y[:, 1:], None, how)[0])


@pytest.mark.parametrize(("embedding", "char_hidden"), [(4, 3), (0, 3), (4, 0)])
def test_words_do_not_depend_on_their_neighbours_spelling(embedding, char_hidden):
    sentences = [("a", "longish", "word"), ("a", "b")]
    reader = WordReader.learn(sentences)
    inputs = {
        "kind": "words",
        "words": len(reader.words),
        "chars": len(reader.chars),
        "embedding": embedding,
        "char_embedding": 2,
        "char_hidden": char_hidden,
    }
    model = _model(inputs, pool=None, bidirectional=True)
    logits = model(reader.batch(sentences), torch.tensor([3, 2]))
    for row, words in enumerate(sentences):
        alone = model(reader.batch([words]))
        torch.testing.assert_close(logits[: len(words), row], alone[:, 0])
    assert model.inputs.size == embedding + 2 * char_hidden


def test_dropout_in_training_alone():
    model = _model(dropout=0.5, layers=2)
    x = _padded(0.0)
    assert not torch.equal(model(x, LENGTHS), model(x, LENGTHS))
    model.eval()
    assert torch.equal(model(x, LENGTHS), model(x, LENGTHS))
    again = SequenceLabeller(**model.config)
    assert again.config == model.config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "qrnn"}, "cell: expected one of .*, got 'qrnn'"),
        ({"pool": "sum"}, "pool: expected one of last, mean, max, None, got 'sum'"),
        ({"inputs": {"kind": "image"}}, "inputs: expected one of .*, got 'image'"),
        ({"outputs": 0}, "outputs: expected a whole number >= 1, got 0"),
        ({"layers": 0}, "layers: expected a whole number >= 1, got 0"),
        ({"dropout": 1.5}, "dropout: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_models_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        _model(**options)


# --- metrics -------------------------------------------------------------------------------------


def test_confusion_leaves_padding_out():
    truth = torch.tensor([[0, 1], [2, -100], [2, -100]])
    guess = torch.tensor([[0, 2], [2, 0], [1, 1]])
    assert confusion(truth, guess, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_scores_by_hand():
    scores = Scores.of(["a", "b", "c"], torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
    assert scores.accuracy == pytest.approx(0.7)
    f1 = [2 * 0.6 * 0.75 / 1.35, 2 * 0.8 * (4 / 6) / (0.8 + 4 / 6)]
    assert scores.macro_f1 == pytest.approx(sum(f1) / 2)  # c does not occur
    a, _, c = scores.rows()
    assert (a["precision"], a["recall"], a["support"]) == pytest.approx((0.6, 0.75, 4))
    assert (c["precision"], c["recall"], c["f1"], c["support"]) == (0, 0, 0, 0)
    lines = scores.table().split("\n")
    assert len(lines) == 4
    assert lines[1].split() == ["a", "0.600", "0.750", "0.667", "4"]
    assert Scores.of(["a"], torch.zeros(1, 1, dtype=torch.int64)).accuracy == 0.0


def test_scores_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(6, (500,), generator=generator)
    guess = torch.where(torch.rand(500, generator=generator) < 0.6, truth, truth * 2 % 5)
    scores = Scores.of(list("abcdefg"), confusion(truth, guess, 7))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(truth, guess))
    options = {"average": "macro", "zero_division": 0}
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(truth, guess, **options))
    rows = metrics.precision_recall_fscore_support(truth, guess, labels=range(7), zero_division=0)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1), rows, strict=False):
        assert ours.tolist() == pytest.approx(theirs.tolist())


def test_floors():
    assert majority_floor(["a", "b", "a"], ["a", "a", "b", "c"]) == 0.5
    train = [("the", "D"), ("run", "V"), ("run", "N"), ("run", "N"), ("cat", "N")]
    test = [("the", "D"), ("run", "V"), ("run", "N"), ("dog", "N")]
    assert word_floor(train, test) == 0.75
    assert math.isclose(word_floor(train, [("x", "D")]), 0.0)
