"""Encoder and decoder: raggedness, the two places of the context, scheduled sampling, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch

from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.translate.attention import ATTENTIONS
from fusedrnn.tasks.translate.model import FEEDS, EncoderDecoder, valid_steps

V, W = 9, 11
SETTINGS = [
    {"attention": attention, "feed": feed}
    for attention, feed in itertools.product(ATTENTIONS, FEEDS)
    if (attention, feed) != ("none", "before")
]


def _model(**options):
    torch.manual_seed(0)
    chosen = {"hidden": 8, "embedding": 5, "layers": 2, **options}
    return EncoderDecoder(V, W, **chosen).double().eval()


def _case(lengths=(4, 1, 3), target_lengths=(2, 5, 1), seed=1):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(V, (max(lengths), len(lengths)), generator=generator)
    inputs = torch.randint(W, (max(target_lengths), len(lengths)), generator=generator)
    return source, torch.tensor(lengths), inputs, torch.tensor(target_lengths)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_ragged_batch_is_its_sentences_one_by_one(cell, bidirectional, options):
    model = _model(cell=cell, bidirectional=bidirectional, **options)
    source, lengths, inputs, target_lengths = _case()
    logits = model(source, lengths, inputs, target_lengths)
    mask = valid_steps(target_lengths, len(inputs))
    assert logits.shape == (int(target_lengths.sum()), W)
    for row, (s, t) in enumerate(zip(lengths, target_lengths, strict=True)):
        alone = model(source[:s, row : row + 1], s[None], inputs[:t, row : row + 1], t[None])
        where = mask.nonzero()[:, 1] == row
        assert torch.allclose(logits[where], alone)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_padding_is_not_looked_at(options):
    model = _model(bidirectional=True, **options)
    source, lengths, inputs, target_lengths = _case()
    before = model(source, lengths, inputs, target_lengths)
    noise_source = torch.where(valid_steps(lengths, len(source)), source, (source + 1) % V)
    noise_inputs = torch.where(valid_steps(target_lengths, len(inputs)), inputs, (inputs + 1) % W)
    assert not torch.equal(noise_source, source)
    assert torch.equal(before, model(noise_source, lengths, noise_inputs, target_lengths))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_a_whole_target_is_its_steps(cell, options, grad):
    model = _model(cell=cell, **options)
    source, lengths, inputs, _ = _case()
    full = torch.full_like(lengths, len(inputs))
    whole = model(source, lengths, inputs, full).view(*inputs.shape, W)
    with torch.set_grad_enabled(grad):
        memory, state = model.encode(source, lengths)
        for t, tokens in enumerate(inputs):
            y, state = model.advance(tokens, state, memory)
            assert torch.allclose(model.head(y), whole[t])


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_every_parameter_learns(options):
    model = _model(bidirectional=True, **options).train()
    model(*_case()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", [s for s in SETTINGS if s["attention"] != "none"], ids=str)
def test_attention_weights_are_those_that_the_steps_use(options):
    model = _model(**options)
    source, lengths, inputs, _ = _case()
    weights = model.attend(source, lengths, inputs)
    assert weights.shape == (3, len(inputs), len(source))
    assert torch.allclose(weights.sum(-1), torch.ones(3, len(inputs), dtype=torch.float64))
    assert weights[1, :, 1:].eq(0).all()
    # The context of the first step, from the weights alone, is what the attention returns.
    memory, state = model.encode(source, lengths)
    query = state[-1]
    if not model.stepwise:
        first_input = torch.cat([model.target_embedding(inputs[:1]), memory.summary[None]], -1)
        query = model.decoder(first_input, state)[0][0]
    _, first = model.attention(query.unsqueeze(0), memory)
    assert torch.allclose(weights[:, :1], first)


def test_a_model_without_attention_has_no_weights():
    source, lengths, inputs, _ = _case()
    with pytest.raises(ValueError, match="expected a model with attention"):
        _model(attention="none").attend(source, lengths, inputs)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_with_a_truth_near_one_sampling_reads_the_given_tokens(options, monkeypatch):
    model = _model(**options)
    case = _case()
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(size))
    assert torch.allclose(model(*case, truth=0.5), model(*case))


def test_with_truth_zero_the_decoder_reads_what_it_draws(monkeypatch):
    model = _model(attention="dot")
    source, lengths, inputs, target_lengths = _case()
    drawn = []

    def draw(probabilities, count):
        drawn.append(probabilities.argmax(-1))
        return drawn[-1].unsqueeze(1)

    monkeypatch.setattr(torch, "multinomial", draw)
    logits = model(source, lengths, inputs, target_lengths, truth=0.0)
    read = torch.stack([inputs[0], *drawn])
    assert torch.allclose(logits, model(source, lengths, read, target_lengths))
    assert not torch.equal(read, inputs)


def test_draws_follow_the_seed():
    model = _model(hidden=16, attention="dot")
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(model(*_case(), truth=0.3))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "rnn"},
        {"attention": "luong"},
        {"feed": "both"},
        {"hidden": 0},
        {"layers": 1.0},
        {"embedding": 0},
        {"dropout": 1.5},
        {"hidden": 7, "bidirectional": True},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        _model(**options)
