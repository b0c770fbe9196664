"""Attention against a plain definition, one query and one source position at a time."""

from __future__ import annotations

import math

import pytest
import torch

from fusedrnn.tasks.translate.attention import ATTENTIONS, Memory

T, S, B, H = 4, 5, 3, 6
KINDS = [name for name, kind in ATTENTIONS.items() if kind is not None]


def _case(kind):
    torch.manual_seed(0)
    attention = ATTENTIONS[kind](H).double()
    values = torch.randn(B, S, H, dtype=torch.float64)
    queries = torch.randn(T, B, H, dtype=torch.float64)
    lengths = torch.tensor([5, 1, 3])
    valid = torch.arange(S) < lengths.unsqueeze(1)
    memory = Memory(values, attention.keys(values), valid, values[:, -1])
    return attention, queries, memory, lengths.tolist()


def _plain_score(kind, attention, q, v):
    if kind == "dot":
        return sum(a * b for a, b in zip(q.tolist(), v.tolist(), strict=True))
    own = {name: parameter.detach() for name, parameter in attention.named_parameters()}
    if kind == "bilinear":
        return float(q @ (own["key.weight"] @ v))
    inner = torch.tanh(own["query.weight"] @ q + own["key.weight"] @ v)
    return float(own["score.weight"][0] @ inner)


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_weight_and_context_is_the_definition_s(kind):
    attention, queries, memory, lengths = _case(kind)
    contexts, weights = attention(queries, memory)
    assert contexts.shape == (T, B, H)
    assert weights.shape == (B, T, S)
    for b in range(B):
        for t in range(T):
            scores = [
                _plain_score(kind, attention, queries[t, b], memory.values[b, s])
                for s in range(lengths[b])
            ]
            total = sum(map(math.exp, scores))
            expected = [math.exp(score) / total for score in scores]
            assert weights[b, t, : lengths[b]].tolist() == pytest.approx(expected)
            context = sum(w * memory.values[b, s] for s, w in enumerate(expected))
            assert torch.allclose(contexts[t, b], context)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_past_the_sentence_has_no_weight_and_no_gradient(kind):
    attention, queries, memory, lengths = _case(kind)
    values = memory.values.clone().requires_grad_()
    contexts, weights = attention(
        queries, Memory(values, attention.keys(values), memory.valid, memory.summary)
    )
    contexts.square().sum().backward()
    assert torch.allclose(weights.sum(-1), torch.ones(B, T, dtype=torch.float64))
    for b, length in enumerate(lengths):
        assert weights[b, :, length:].eq(0).all()
        assert values.grad[b, length:].eq(0).all()
        assert values.grad[b, :length].ne(0).any()


def test_rows_of_a_memory_are_selected_together():
    _, _, memory, _ = _case("additive")
    rows = torch.tensor([2, 2, 0])
    selected = memory.select(rows)
    for name in ("values", "keys", "valid", "summary"):
        assert torch.equal(getattr(selected, name), getattr(memory, name)[rows])


@pytest.mark.parametrize("kind", ["bilinear", "additive"])
def test_attention_begins_near_an_equal_share(kind):
    torch.manual_seed(0)
    attention = ATTENTIONS[kind](256)
    values, queries = torch.tanh(torch.randn(4, 9, 256)), torch.tanh(torch.randn(6, 4, 256))
    memory = Memory(
        values, attention.keys(values), torch.ones(4, 9, dtype=torch.bool), values[:, 0]
    )
    _, weights = attention(queries, memory)
    # Begun as torch's linear layers are, a bilinear score gives single weights of more than 0.9.
    assert weights.max() < 0.5
    assert weights.min() > 0.01
