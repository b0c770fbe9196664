"""The model: shapes, the carried state, one-hot rows against indices, dropout, bad arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fusedrnn.layers import RNN
from fusedrnn.lm import LanguageModel, detach
from fusedrnn.lm.model import CELLS

V, T, B = 11, 6, 3


def _ids(seed=0, steps=T):
    return torch.randint(V, (steps, B), generator=torch.Generator().manual_seed(seed))


def _tensors(state):
    return state if isinstance(state, tuple) else (state,)


def test_one_relu_step_of_the_literature():
    rnn = RNN(2, 2, nonlinearity="relu")
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.eye(2))
        rnn.weight_hh_l0.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        rnn.bias_ih_l0.copy_(torch.tensor([-1.0, 1.0]))
        rnn.bias_hh_l0.zero_()
    # Written for row vectors in the literature: h W, while torch.nn stores the transpose.
    rnn.weight_hh_l0.data = rnn.weight_hh_l0.data.t().contiguous()
    outputs, state = rnn(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]]))
    assert outputs.tolist() == state.tolist() == [[[2.0, 3.0]]]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("embedding", [0, 5])
def test_shapes_and_the_carried_state(cell, layers, embedding):
    model = LanguageModel(V, cell, hidden=8, layers=layers, embedding=embedding).double()
    ids = _ids()
    logits, state = model(ids)
    assert logits.shape == (T, B, V)
    assert [part.shape for part in _tensors(state)] == [(layers, B, 8)] * len(_tensors(state))
    assert len(_tensors(state)) == (2 if cell == "lstm" else 1)
    first, carried = model(ids[:2])
    second, end = model(ids[2:], carried)
    torch.testing.assert_close(torch.cat([first, second]), logits, rtol=0, atol=1e-12)
    for got, expected in zip(_tensors(end), _tensors(state), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_indices_are_one_hot_rows(cell):
    model = LanguageModel(V, cell, hidden=8).double()
    ids = _ids()
    outputs, _ = model.rnn(F.one_hot(ids, V).double())
    torch.testing.assert_close(model(ids)[0], model.head(outputs), rtol=0, atol=1e-12)


def test_lengths_and_resets_reach_the_layers():
    model = LanguageModel(V, "gru", hidden=8).double()
    ids = _ids()
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[3] = True
    logits, _ = model(ids, resets=resets)
    torch.testing.assert_close(logits[3:], model(ids[3:])[0], rtol=0, atol=1e-12)
    lengths = torch.tensor([6, 4, 2])
    _, state = model(ids, lengths=lengths)
    torch.testing.assert_close(state[:, 2], model(ids[:2])[1][:, 2], rtol=0, atol=1e-12)


def test_detached_states_have_no_history():
    for cell in ("elman", "lstm"):
        state = detach(LanguageModel(V, cell, hidden=4)(_ids())[1])
        assert all(not part.requires_grad for part in _tensors(state))


@pytest.mark.parametrize(("layers", "embedding"), [(1, 0), (2, 0), (2, 5)])
def test_dropout_acts_in_training_alone(layers, embedding):
    model = LanguageModel(V, "gru", hidden=16, layers=layers, embedding=embedding, dropout=0.5)
    assert not torch.equal(model(_ids())[0], model(_ids())[0])
    model.eval()
    assert torch.equal(model(_ids())[0], model(_ids())[0])


def test_dropout_falls_on_the_outputs_of_embedding_and_layers():
    model = LanguageModel(V, "gru", hidden=16, embedding=5, dropout=1.0)
    (logits, state), (_, other) = model(_ids()), model(_ids(1))
    assert torch.equal(logits, model.head.bias.expand_as(logits))
    assert torch.equal(state, other)
    one_hot = LanguageModel(V, "gru", hidden=16, dropout=1.0)
    assert not torch.equal(one_hot(_ids())[1], one_hot(_ids(1))[1])
    assert one_hot.rnn.dropout == 0.0  # one layer has nothing between layers
    assert LanguageModel(V, "gru", hidden=16, layers=2, dropout=0.25).rnn.dropout == 0.25


def test_one_seed_gives_equal_parameters():
    def build():
        torch.manual_seed(5)
        return LanguageModel(V, "lstm", hidden=8, embedding=3).state_dict()

    one, two = build(), build()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, "cell: expected one of elman, elman-relu, gru, lstm, got 'rnn'"),
        ({"hidden": 0}, "hidden: expected a whole number >= 1, got 0"),
        ({"layers": 1.5}, "layers: expected a whole number >= 1, got 1.5"),
        ({"embedding": -1}, "embedding: expected a whole number >= 0, got -1"),
        ({"vocab_size": True}, "vocab_size: expected a whole number >= 1, got True"),
        ({"dropout": 1.5}, "dropout: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(**{"vocab_size": V, **options})


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"embedding": 8, "hidden": 8, "tied": True}], ids=str)
def test_loss_of_labels_is_that_of_the_logits(options, reduction):
    torch.manual_seed(0)
    model = LanguageModel(V, "lstm", **{"hidden": 8} | options).double()
    ids, labels = _ids(), _ids(1)
    labels[2, 1] = -100
    logits, state = model(ids)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction=reduction)
    loss, same = model(ids, labels=labels, reduction=reduction)
    assert torch.allclose(loss, expected)
    assert all(torch.equal(a, b) for a, b in zip(same, state, strict=True))
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        assert torch.allclose(a, b)


def test_second_derivatives_of_tied_weights():
    torch.manual_seed(0)
    model = LanguageModel(V, "gru", embedding=8, hidden=8, tied=True).double()
    ids, labels = _ids(), _ids(1)
    expected = F.cross_entropy(model(ids)[0].flatten(0, 1), labels.flatten())
    pairs = zip(
        torch.autograd.grad(model(ids, labels=labels)[0], model.parameters(), create_graph=True),
        torch.autograd.grad(expected, model.parameters(), create_graph=True),
        strict=True,
    )
    assert all(torch.allclose(a, b) for a, b in pairs)


class _Halved(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


def _watch(head):
    head.register_forward_hook(lambda module, inputs, output: output / 2)
    return head


def _wrap(head):
    forward = head.forward
    head.forward = lambda x: forward(x) / 2
    return head


def _watch_gradients(head):
    head.register_full_backward_hook(lambda module, grads, outputs: (grads[0] / 2,))
    return head


@pytest.mark.parametrize(
    "change",
    [
        lambda head: _Halved(8, V),
        _wrap,
        _watch,
        _watch_gradients,
        lambda head: torch.nn.utils.parametrizations.weight_norm(head),
        lambda head: torch.nn.Sequential(head, torch.nn.Tanh()),
    ],
    ids=["class", "forward", "hook", "backward hook", "parametrized", "more than linear"],
)
def test_loss_of_a_head_that_was_changed(change):
    torch.manual_seed(0)
    model = LanguageModel(V, "gru", hidden=8)
    model.head = change(model.head)
    ids, labels = _ids(), _ids(1)
    expected = F.cross_entropy(model(ids)[0].flatten(0, 1), labels.flatten())
    loss = model(ids, labels=labels)[0]
    assert torch.allclose(loss, expected)
    below = model.rnn.weight_hh_l0
    grads = (torch.autograd.grad(each, below)[0] for each in (loss, expected))
    assert torch.allclose(*grads)
    with pytest.raises(RuntimeError, match="one class for each row"):
        model(ids, labels=labels.t())
    with pytest.raises(ValueError, match="expected 'mean' or 'sum'"):
        model(ids, labels=labels, reduction="none")


def test_hooks_of_all_modules_see_the_head():
    model, seen = LanguageModel(V, "gru", hidden=8), []
    with torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(module)
    ):
        model(_ids(), labels=_ids(1))
    assert model.head in seen
