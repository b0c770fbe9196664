"""The loop of generation: the native op against the loop in Python, token for token."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import library, nn

import fusedrnn
from fusedrnn import _C, _ops
from fusedrnn.lm import LanguageModel, generate, sample_loop, stream
from fusedrnn.lm.sample_native import serves
from fusedrnn.text import TextError

V = 23
CELLS = ("elman", "elman-relu", "gru", "lstm")
RULES = (
    {},
    {"temperature": 0.0},
    {"temperature": 0.5, "top_k": 5},
    {"temperature": 2.0, "top_p": 0.7},
    {"top_k": 9, "top_p": 0.9, "repetition_penalty": 1.3, "banned": 0},
    {"temperature": 0.0, "repetition_penalty": 1.5, "banned": (1, 2)},
    {"no_repeat_ngram": 2, "top_p": 0.5},
    {"temperature": 0.0, "no_repeat_ngram": 1},
)


def model_of(cell="lstm", hidden=16, layers=1, embedding=0, dtype=torch.float32):
    torch.manual_seed(hidden + layers)
    model = LanguageModel(V, cell, hidden, layers, embedding).to(dtype)
    with torch.no_grad():
        model.head.weight *= 6  # probabilities that differ
    return model


def generator(seed):
    return torch.Generator().manual_seed(seed)


def both(model, prompt, length, seed=0, **options):
    native, python = (
        generate(model, prompt, length, generator=generator(seed), native=way, **options)
        for way in (True, False)
    )
    return native, python


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules) or "plain")
@pytest.mark.parametrize("cell", CELLS)
def test_same_tokens_as_the_python_loop(cell, rules):
    sizes = itertools.product((1, 2), (0, 5), (7, 33), (1, 3, 5))
    for seed, (layers, embedding, hidden, batch) in enumerate(sizes):
        dtype = (torch.float32, torch.float64)[seed % 2]
        model = model_of(cell, hidden, layers, embedding, dtype)
        prompt = torch.randint(0, V, (3, batch), generator=generator(seed))
        native, python = both(model, prompt, 14, seed, **rules)
        assert torch.equal(native, python), (layers, embedding, hidden, batch, dtype)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_same_tokens_over_many_seeds_and_a_long_time(batch):
    model = model_of(hidden=40, layers=2)
    for seed in range(8):
        native, python = both(model, torch.full((1, batch), 3), 150, seed)
        assert torch.equal(native, python)
    assert len(native.unique()) > V // 2


def test_same_tokens_with_prompts_of_different_lengths():
    model = model_of("gru", 24)
    prompt, lengths = torch.randint(0, V, (6, 4)), torch.tensor([6, 1, 3, 5])
    native, python = both(model, prompt, 30, 1, lengths=lengths, repetition_penalty=1.2)
    assert torch.equal(native, python)
    below = prompt.clone()
    below[torch.arange(6).unsqueeze(1) >= lengths] = 1
    assert torch.equal(
        both(model, below, 30, 1, lengths=lengths, repetition_penalty=1.2)[0], native
    )


@pytest.mark.parametrize("native", [True, False])
def test_rows_of_different_lengths_go_on_as_each_alone(native):
    model = model_of("lstm", 24, dtype=torch.float64)
    prompt, lengths = torch.randint(0, V, (6, 4)), torch.tensor([6, 1, 3, 5])
    options = {"temperature": 0.0, "native": native}
    together = generate(model, prompt, 12, lengths=lengths, **options)
    for row, length in enumerate(lengths.tolist()):
        alone = generate(model, prompt[:length, row], 12, **options)
        assert torch.equal(together[:, row], alone)


def test_the_state_goes_on_from_chunk_to_chunk(monkeypatch):
    model, prompt = model_of(layers=2, embedding=4), torch.tensor([1, 2])
    whole = generate(model, prompt, 40, generator=generator(3), no_repeat_ngram=3)
    for size in (1, 7):
        monkeypatch.setattr(sample_loop, "_FIRST_CHUNK", size)
        monkeypatch.setattr(sample_loop, "_LARGEST_CHUNK", size)
        pieces = generate(model, prompt, 40, generator=generator(3), no_repeat_ngram=3)
        assert torch.equal(pieces, whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads):
    before = torch.get_num_threads()
    model, prompt = model_of(hidden=200), torch.tensor([1])
    expected = generate(model, prompt, 40, generator=generator(0), native=False)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(generate(model, prompt, 40, generator=generator(0)), expected)
    finally:
        torch.set_num_threads(before)


PROGRAM = """
import json, torch
from fusedrnn.lm import LanguageModel, generate
found = []
for cell, batch in (("lstm", 1), ("gru", 3), ("elman", 5)):
    torch.manual_seed(0)
    model = LanguageModel(40, cell, 37, 2)
    with torch.no_grad():
        model.head.weight *= 6
    for native in (True, False):
        draws = torch.Generator().manual_seed(1)
        prompt = torch.zeros(2, batch, dtype=torch.int64)
        options = {"top_p": 0.9, "top_k": 20}
        tokens = generate(model, prompt, 40, generator=draws, native=native, **options)
        found.append(tokens.tolist())
print(json.dumps(found))
"""


@pytest.mark.parametrize("isa", _C.available_isas())
def test_every_instruction_set(isa):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "FUSEDRNN_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found[0::2] == found[1::2]


# --- what is streamed ----------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_stream_gives_the_tokens_of_generate_one_by_one(native, shape):
    model, prompt = model_of(), torch.ones(shape, dtype=torch.int64)
    streamed = list(stream(model, prompt, 25, generator=generator(0), native=native, top_k=4))
    assert {each.shape for each in streamed} == {shape[1:]}
    whole = generate(model, prompt, 25, generator=generator(0), top_k=4)
    assert torch.equal(torch.stack(streamed), whole)


@pytest.mark.parametrize("native", [True, False])
def test_a_stream_may_be_left(native):
    model = model_of()
    assert model.training
    for token in stream(model, torch.tensor([1]), 10**9, native=native):
        assert 0 <= int(token) < V
        assert torch.is_grad_enabled()
        break
    assert model.training


# --- which models the op takes -------------------------------------------------------------------


class _Other(LanguageModel):
    def forward(self, ids, state=None, **options):
        return super().forward(ids, state, **options)


def _with_hook():
    model = model_of()
    model.head.register_forward_hook(lambda *_: None)
    return model


def _with_torchs_layer():
    model = model_of()
    model.rnn = nn.LSTM(V, 16)
    return model


@pytest.mark.parametrize(
    "model",
    [_Other(V, hidden=8), model_of(dtype=torch.bfloat16), _with_hook(), _with_torchs_layer()],
    ids=["subclass", "bfloat16", "hook", "torch.nn"],
)
def test_other_models_take_the_python_loop(model):
    assert not serves(model)
    with pytest.raises(TextError, match="native: expected a plain LanguageModel"):
        generate(model, torch.tensor([1]), 2, native=True)
    if not isinstance(model.rnn, nn.LSTM):
        assert len(generate(model, torch.tensor([1]), 2)) == 2


def test_plain_models_take_the_op(monkeypatch):
    monkeypatch.setattr(sample_loop, "draw", None)  # of the Python loop
    for cell in CELLS:
        assert len(generate(model_of(cell), torch.tensor([1]), 2)) == 2


def test_a_model_that_diverged_is_refused_by_both():
    for value in (float("nan"), float("inf")):
        model = model_of()
        with torch.no_grad():
            model.head.bias[3] = value
        for native in (True, False):
            with pytest.raises(TextError, match="logits: expected finite numbers"):
                generate(model, torch.tensor([1]), 5, native=native)


def test_nothing_left_to_draw_is_an_error():
    for native, temperature in itertools.product((True, False), (0.0, 1.0)):
        with pytest.raises(TextError, match="a token to draw"):
            generate(
                model_of(), torch.tensor([1]), 5,
                native=native, temperature=temperature, banned=tuple(range(V)),
            )  # fmt: skip


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2), (1, 2)])
def test_neither_model_nor_prompt_is_written_to(shape, native):
    model = model_of(layers=2, embedding=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompt = torch.full(shape, 5)
    for rules in ({}, {"no_repeat_ngram": 3}):
        generate(model, prompt, 50, native=native, generator=generator(0), **rules)
    assert torch.equal(prompt, torch.full(shape, 5))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# --- the op itself -------------------------------------------------------------------------------

HIDDEN, BATCH = 6, 2


def arguments(**changed):
    """Those of a GRU over one-hot rows, in the order of the schema."""
    found = {
        "h": torch.zeros(1, BATCH, HIDDEN),
        "c": None,
        "history": torch.zeros(BATCH, 10, dtype=torch.int64),
        "lengths": torch.ones(BATCH, dtype=torch.int64),
        "weights": [w.detach() for w in fusedrnn.GRU(V, HIDDEN).parameters()],
        "embedding": None,
        "head": torch.randn(V, HIDDEN),
        "head_bias": None,
        "uniform": torch.rand(4, BATCH, dtype=torch.float64),
        "banned": None,
        "cell": _ops.CELLS["gru"].number,
        "penalty": 1.0,
        "ngram": 0,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
    }
    return list({**found, **changed}.values())


OP = torch.ops.fusedrnn.generate.default


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("h", torch.zeros(1, HIDDEN), "expected h .layers, B, H."),
        ("h", torch.zeros(1, BATCH, HIDDEN, dtype=torch.bfloat16), "float32 or float64"),
        ("h", torch.zeros(2, BATCH, HIDDEN), "2-D weights|2 to 5 weights"),
        ("c", torch.zeros(1, BATCH, HIDDEN), "no c for a cell"),
        ("history", torch.zeros(BATCH, 4, dtype=torch.int64), "room for 4 more tokens"),
        ("history", torch.full((BATCH, 10), V), "tokens in .0, 23. in the history, got 23"),
        ("history", torch.zeros(BATCH, 10), "history of dtype int64"),
        ("lengths", torch.tensor([1, -1]), "got -1 in row 1"),
        ("lengths", torch.tensor([1, 2**63 - 1]), "got 9223372036854775807 in row 1"),
        ("lengths", torch.ones(3, dtype=torch.int64), "lengths of shape"),
        ("embedding", torch.zeros(V, 4), "of shape"),
        ("head", torch.zeros(V + 1, HIDDEN), "w_ih of 24 columns"),
        ("head", torch.zeros(V, HIDDEN + 1), "head of shape"),
        ("head_bias", torch.zeros(V + 1), "head_bias of shape"),
        ("uniform", torch.rand(4, BATCH), "uniform of dtype float64"),
        ("banned", torch.zeros(V - 1, dtype=torch.bool), "banned of shape"),
        ("cell", 99, "a cell index"),
        ("penalty", 0.0, "a penalty above 0"),
        ("ngram", -1, "ngram of at least 0"),
        ("temperature", float("nan"), "a temperature of at least 0"),
        ("top_k", -1, "top_k of at least 0"),
        ("top_p", 0.0, "top_p above 0"),
    ],
)
def test_the_op_refuses_before_it_writes(name, value, message):
    given = arguments(**{name: value})
    before = [t.clone() for t in given[:4] if t is not None]
    with pytest.raises(RuntimeError, match=message):
        OP(*given)
    after = [t for t in given[:4] if t is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("batch", [BATCH, 5])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_where_nothing_can_be_drawn_the_state_stays(batch, steps):
    h = torch.randn(1, batch, HIDDEN)
    given = arguments(
        h=h.clone(),
        history=torch.zeros(batch, 10, dtype=torch.int64),
        lengths=torch.ones(batch, dtype=torch.int64),
        uniform=torch.rand(steps, batch, dtype=torch.float64),
        banned=torch.ones(V, dtype=torch.bool),
    )
    assert OP(*given).isnan().all()
    assert torch.equal(given[0], h)
    assert torch.equal(given[3], torch.ones(batch, dtype=torch.int64))


def test_the_schema_says_what_is_written():
    utils = ("test_schema", "test_faketensor")
    assert set(library.opcheck(OP, tuple(arguments()), test_utils=utils).values()) == {"SUCCESS"}


@pytest.mark.parametrize("batch", [BATCH, 5])
def test_log_probabilities_are_those_of_the_model(batch):
    model, prompt = model_of("gru"), torch.ones(1, batch, dtype=torch.int64)
    sampling = sample_loop.make_sampling(0.5, top_k=3, repetition_penalty=1.4)
    found = list(sample_loop.chunks(model, prompt, 12, sampling, generator(0), native=True))
    tokens = torch.cat([each for each, _ in found])
    logits, _ = model(torch.cat([prompt, tokens[:-1]]))
    expected = logits.double().log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(torch.cat([each for _, each in found]), expected, atol=1e-5, rtol=0)
