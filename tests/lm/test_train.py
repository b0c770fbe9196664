"""Training and evaluation: against torch.nn step by step, truncation, clipping, seeds, errors."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusedrnn.lm import DivergedError, LanguageModel, evaluate, make_optimizer, train, train_epoch
from fusedrnn.lm.model import CELLS
from fusedrnn.lm.optim import OPTIMIZERS
from fusedrnn.text import CharTokenizer, TextError, build_corpus, make_loader, read_text
from fusedrnn.text.batches import ORDERS

V = 13


def _text(length, seed=0):
    """A text with something to learn: each token is the sum of the last two, or a random one."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (length,), generator=generator)
    noise = torch.rand(length, generator=generator) < 0.1
    for i in range(2, length):
        if not noise[i]:
            ids[i] = (ids[i - 1] + ids[i - 2]) % V
    return ids


def _model(cell="gru", **options):
    torch.manual_seed(0)
    return LanguageModel(V, cell, **{"hidden": 16, **options})


class OneHot(nn.Module):
    """One of torch.nn's own layers behind one-hot rows."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, ids, state=None):
        rows = F.one_hot(ids, self.rnn.input_size).to(self.rnn.weight_ih_l0.dtype)
        return self.rnn(rows, state)


def _twin(model):
    """The same model with the same parameters on torch.nn's layers."""
    ours, config = model.rnn, model.config
    kinds = {"gru": nn.GRU, "lstm": nn.LSTM}
    kind = kinds.get(config["cell"], nn.RNN)
    relu = {"nonlinearity": "relu"} if config["cell"] == "elman-relu" else {}
    theirs = kind(ours.input_size, ours.hidden_size, ours.num_layers, **relu)
    theirs.to(ours.weight_ih_l0.dtype).load_state_dict(ours.state_dict())
    twin = copy.deepcopy(model)
    twin.rnn = OneHot(theirs)
    return twin


def _losses(model, ids, *, order, epochs, batch, steps, lr=1.0):
    losses = []
    optimizer = make_optimizer("sgd", model.parameters(), lr)
    settings = {"epochs": epochs, "batch": batch, "steps": steps, "order": order}
    for _ in train(model, optimizer, ids, **settings, on_step=lambda _, x: losses.append(x.item())):
        pass
    return losses


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_losses_are_those_of_torch_nn_step_by_step(cell, order, layers):
    model = _model(cell, layers=layers).double()
    twin = _twin(model)
    settings = {"order": order, "epochs": 3, "batch": 4, "steps": 7}
    ours = _losses(model, _text(300), **settings)
    theirs = _losses(twin, _text(300), **settings)
    assert len(ours) >= 27
    assert ours == pytest.approx(theirs, rel=1e-10)
    assert min(ours) < ours[0] - 0.01


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_losses_on_the_time_machine_are_those_of_torch_nn(cell, data_file):
    text = read_text(data_file("timemachine.txt"))
    corpus = build_corpus(text, CharTokenizer("letters"), max_tokens=10_000)
    torch.manual_seed(1)
    model = LanguageModel(len(corpus.vocab), cell, hidden=256)
    twin = _twin(model)
    settings = {"order": "sequential", "epochs": 2, "batch": 32, "steps": 35}
    ours = _losses(model, corpus.train, **settings)
    theirs = _losses(twin, corpus.train, **settings)
    assert len(ours) == 16
    # float32: rounding apart, which the steps enlarge a little.
    assert ours == pytest.approx(theirs, rel=2e-5)


@pytest.mark.parametrize("cell", ["elman", "lstm"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_state_is_carried_in_sequential_order_and_reset_in_random_order(cell, order):
    seen = []

    class Watched(LanguageModel):
        def forward(self, ids, state=None, **options):
            seen.append(state)
            logits, after = super().forward(ids, state, **options)
            seen.append(after)
            return logits, after

    torch.manual_seed(0)
    model = Watched(V, cell, hidden=8)
    optimizer = make_optimizer("sgd", model.parameters(), 0.1)
    for _ in train(model, optimizer, _text(100), epochs=2, batch=3, steps=5, order=order):
        pass
    entering, leaving = seen[0::2], seen[1::2]
    assert len(entering) == 12
    for step, state in enumerate(entering):
        if order == "random" or step in (0, 6):
            assert state is None
            continue
        before = leaving[step - 1]
        pairs = zip(state, before, strict=True) if cell == "lstm" else [(state, before)]
        for now, then in pairs:
            assert torch.equal(now, then)
            assert then.requires_grad
            assert not now.requires_grad


@pytest.mark.parametrize("order", ORDERS)
def test_every_epoch_has_its_own_batches(order):
    model = _model()
    losses = _losses(model, _text(300), order=order, epochs=3, batch=4, steps=7, lr=0.0)
    epochs = [losses[i : i + 10] for i in (0, 10, 20)]
    assert len(losses) == 30
    assert epochs[0] != epochs[1] != epochs[2]


def test_clipping_bounds_the_global_norm_of_all_gradients():
    ids = _text(50)
    batches = list(make_loader(ids, 4, 6))[:1]

    def moved(clip):
        model = _model().double()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        train_epoch(
            model, batches, make_optimizer("sgd", model.parameters(), 1.0), carry=True, clip=clip
        )
        pairs = zip(model.parameters(), before, strict=True)
        return torch.cat([(then - now.detach()).flatten() for now, then in pairs])

    free, clipped = moved(0.0), moved(0.01)
    assert free.norm() > 0.02
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())
    torch.testing.assert_close(moved(1e6), free)


def test_an_epoch_says_what_was_measured():
    ids, valid = _text(300), _text(80, seed=1)
    model = _model()
    steps = []
    epochs = list(
        train(
            model,
            make_optimizer("adam", model.parameters()),
            ids,
            epochs=2,
            batch=4,
            steps=7,
            valid_ids=valid,
            on_step=lambda tokens, loss: steps.append((tokens, loss.item())),
        )
    )
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert sum(epoch.tokens for epoch in epochs) == sum(tokens for tokens, _ in steps)
    assert epochs[0].tokens == 10 * 28
    last = epochs[1]
    mean = math.fsum(loss for _, loss in steps[10:]) / 10
    assert last.loss == pytest.approx(mean, rel=1e-6)
    assert last.perplexity == pytest.approx(math.exp(mean), rel=1e-6)
    assert last.valid_loss == evaluate(model, valid, batch=4, steps=7)
    assert last.tokens_per_s == pytest.approx(last.tokens / last.seconds)
    assert set(last.to_dict()) >= {"epoch", "perplexity", "tokens_per_s", "valid_perplexity"}
    (alone,) = train(
        model,
        make_optimizer("adam", model.parameters()),
        ids,
        epochs=1,
        batch=4,
        valid_ids=valid[:1],
    )
    assert alone.valid_loss is None
    assert "valid_loss" not in alone.to_dict()


def test_same_seed_same_losses_bit_for_bit():
    def run(seed):
        torch.manual_seed(seed)
        model = LanguageModel(V, "lstm", hidden=32, layers=2, embedding=8, dropout=0.3)
        optimizer = make_optimizer("adam", model.parameters())
        settings = {"epochs": 3, "batch": 4, "steps": 7, "order": "random", "seed": seed}
        epochs = train(model, optimizer, _text(400), valid_ids=_text(50, 1), **settings)
        return [(epoch.loss, epoch.valid_loss) for epoch in epochs]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_training_learns_what_there_is_to_learn():
    model = _model("lstm", hidden=64)
    optimizer = make_optimizer("adam", model.parameters(), 0.01)
    epochs = list(train(model, optimizer, _text(4000), epochs=20, batch=8, steps=20))
    # A tenth of the tokens is drawn at random; the others follow from two.
    assert epochs[0].perplexity > 5
    assert epochs[-1].perplexity < 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_torch_optimizer_trains(name):
    model = _model()
    optimizer = make_optimizer(name, model.parameters())
    assert type(optimizer).__name__.lower() == name
    before = evaluate(model, _text(300))
    list(train(model, optimizer, _text(300), epochs=2, batch=4, steps=7))
    assert evaluate(model, _text(300)) < before


def test_learning_rates():
    parameters = [nn.Parameter(torch.zeros(1))]
    assert make_optimizer("sgd", parameters).param_groups[0]["lr"] == 1.0
    assert make_optimizer("sgd", parameters, 0.25).param_groups[0]["lr"] == 0.25
    with pytest.raises(ValueError, match=r"expected one of .*sgd, got 'lbfgs'"):
        make_optimizer("lbfgs", parameters)


def test_a_loss_that_is_not_finite_ends_the_run():
    model = _model()
    with torch.no_grad():
        model.head.bias[0] = math.nan
    with pytest.raises(DivergedError, match="epoch 1, update 1: expected a finite loss, got nan"):
        list(train(model, make_optimizer("sgd", model.parameters()), _text(300), epochs=2, batch=4))


def test_a_model_with_nothing_to_train():
    model = _model().requires_grad_(False)
    batches = [(torch.zeros(3, 2).long(), torch.zeros(3, 2).long())]
    with pytest.raises(ValueError, match="expected parameters to train"):
        train_epoch(model, batches, None, carry=False, clip=1.0)


def test_a_text_too_short_for_a_batch():
    model = _model()
    with pytest.raises(TextError, match="expected at least 141 tokens"):
        list(
            train(
                model,
                make_optimizer("sgd", model.parameters()),
                _text(140),
                epochs=1,
                batch=4,
                steps=35,
            )
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cell", CELLS)
def test_losses_on_a_gpu_are_those_on_the_cpu(cell, order):
    model = _model(cell, layers=2)
    on_gpu = copy.deepcopy(model).cuda()
    settings = {"order": order, "epochs": 2, "batch": 4, "steps": 7}
    expected = _losses(model, _text(300), **settings)
    assert _losses(on_gpu, _text(300), **settings) == pytest.approx(expected, rel=1e-3)
    cpu, gpu = (evaluate(each, _text(100), batch=3, steps=7) for each in (model, on_gpu))
    assert gpu == pytest.approx(cpu, rel=1e-3)


# --- evaluation ----------------------------------------------------------------------------------


def test_a_uniform_models_perplexity_is_its_vocabulary():
    model = _model()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    assert math.exp(evaluate(model, _text(500))) == pytest.approx(V, rel=1e-6)
    optimizer = make_optimizer("sgd", model.parameters(), 0.0)
    (epoch,) = train(model, optimizer, _text(500), epochs=1, batch=4, steps=7)
    assert epoch.perplexity == pytest.approx(V, rel=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("length", [2, 3, 50, 71, 200])
def test_in_one_stream_evaluation_is_the_likelihood_of_the_whole_text(cell, length):
    model = _model(cell, layers=2).double().eval()
    ids = _text(length)
    logits, _ = model(ids[:-1].unsqueeze(1))
    expected = F.cross_entropy(logits.squeeze(1), ids[1:]).item()
    for steps in (1, 7, 1000):
        assert evaluate(model, ids, batch=1, steps=steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("length", [2, 5, 36, 37, 73, 200, 211])
@pytest.mark.parametrize("batch", [1, 2, 5, 32])
def test_evaluation_counts_every_token_once(length, batch):
    """A model whose every prediction is the same, so that the mean says which tokens were met."""
    model = _model().double()
    nn.init.zeros_(model.head.weight)
    model.head.bias.data.copy_(torch.arange(V) / 3)
    ids = _text(length)
    rows = set()
    model.register_forward_pre_hook(lambda _, inputs: rows.add(inputs[0].shape[1]))
    expected = F.cross_entropy(model.head.bias.expand(length - 1, V), ids[1:]).item()
    assert evaluate(model, ids, batch=batch, steps=7) == pytest.approx(expected, rel=1e-12)
    assert max(rows) <= batch


def test_evaluation_leaves_the_model_as_it_was():
    model = _model(dropout=0.5, layers=2)
    before = copy.deepcopy(model.state_dict())
    one = evaluate(model, _text(100))
    assert model.training
    assert one == evaluate(model, _text(100))  # no dropout
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    evaluate(model.eval(), _text(100))
    assert not model.training


@pytest.mark.parametrize("length", [0, 1])
def test_evaluation_needs_two_tokens(length):
    with pytest.raises(TextError, match=f"at least 2 tokens to evaluate on, got {length}"):
        evaluate(_model(), _text(5)[:length])
