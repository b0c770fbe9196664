"""The rules between logits and a token, each against its definition."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedrnn.lm import Sampling
from fusedrnn.lm.sample_rules import draw, round_logits
from fusedrnn.text import TextError

LOGITS = [math.log(p) for p in (0.4, 0.3, 0.15, 0.1, 0.05)]


def drawn(logits, sampling, history=(), count=400):
    """Which tokens come out over evenly spaced numbers, and how often."""
    rows = torch.tensor([logits] * count, dtype=torch.float64)
    past = [torch.tensor(history, dtype=torch.int64)] * count
    tokens, logprobs = draw(rows, sampling, past, (torch.arange(count) + 0.5) / count)
    assert torch.equal(logprobs, round_logits(rows).log_softmax(-1)[torch.arange(count), tokens])
    return {token: n / count for token, n in sorted(Counter(tokens.tolist()).items())}


def test_the_draw_is_the_inverse_of_the_cumulative_distribution():
    assert drawn(LOGITS, Sampling()) == pytest.approx({0: 0.4, 1: 0.3, 2: 0.15, 3: 0.1, 4: 0.05})
    rows = torch.tensor([LOGITS] * 4, dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.399999, 0.400001, 1 - 2**-53], dtype=torch.float64)
    assert draw(rows, Sampling(), [rows[0][:0].long()] * 4, uniform)[0].tolist() == [0, 0, 1, 4]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"top_k": 2}, {0: 4 / 7, 1: 3 / 7}),
        ({"top_k": 1}, {0: 1.0}),
        ({"top_k": 5}, {0: 0.4, 1: 0.3, 2: 0.15, 3: 0.1, 4: 0.05}),
        ({"top_k": 99}, {0: 0.4, 1: 0.3, 2: 0.15, 3: 0.1, 4: 0.05}),
        ({"top_p": 0.4}, {0: 1.0}),
        ({"top_p": 0.41}, {0: 4 / 7, 1: 3 / 7}),
        ({"top_p": 0.7}, {0: 4 / 7, 1: 3 / 7}),
        ({"top_p": 1e-9}, {0: 1.0}),
        ({"top_k": 3, "top_p": 0.8}, {0: 4 / 7, 1: 3 / 7}),
        ({"temperature": 0.5}, {0: 0.16 / 0.285, 1: 0.09 / 0.285, 2: 0.0225 / 0.285,
                                3: 0.01 / 0.285, 4: 0.0025 / 0.285}),
        ({"banned": (0, 2)}, {1: 0.3 / 0.45, 3: 0.1 / 0.45, 4: 0.05 / 0.45}),
        ({"temperature": 0.0, "banned": (0,)}, {1: 1.0}),
    ],
    ids=str,
)  # fmt: skip
def test_rules_by_hand(rules, expected):
    assert drawn(LOGITS, Sampling(**rules)) == pytest.approx(expected, abs=0.01)


def test_the_first_of_equals_comes_first():
    assert drawn([1.0, 2.0, 2.0, 2.0], Sampling(top_k=2)) == {1: 0.5, 2: 0.5}
    assert drawn([1.0, 2.0, 2.0], Sampling(temperature=0)) == {1: 1.0}
    # a share that is reached exactly, but for rounding
    assert set(drawn([0.0] * 10, Sampling(top_p=0.3))) == {0, 1, 2}


def test_the_penalty_lowers_what_was_seen():
    scores = [2.0, -1.0, 0.5]
    got = drawn(scores, Sampling(repetition_penalty=2.0), history=[0, 1, 1])
    by_hand = torch.tensor([1.0, -2.0, 0.5]).softmax(0).tolist()
    assert got == pytest.approx(dict(enumerate(by_hand)), abs=0.01)


def test_a_penalty_that_makes_a_score_infinite_is_an_error():
    for temperature in (0.0, 1.0):
        rules = Sampling(temperature, repetition_penalty=1e-300)
        with pytest.raises(TextError, match="logits: expected finite numbers"):
            drawn([1e9, 0.0], rules, history=[0])
        assert drawn([1e9, -5.0], rules, history=[1]) == {0: 1.0}
        # downwards it is a token that cannot come
        away = Sampling(temperature, repetition_penalty=1e300)
        assert drawn([-1e9, -2e9], away, history=[0]) == {1: 1.0}


@pytest.mark.parametrize(
    ("n", "history", "out"),
    [
        (1, [0, 3], {0, 3}),
        (2, [1, 2, 1], {2}),
        (2, [1, 2], set()),
        (3, [0, 1, 2, 3, 0, 1], {2}),
        (3, [0, 1, 2, 0, 1, 4, 0, 1], {2, 4}),
        (4, [0, 1], set()),
        (2, [2, 2], {2}),
    ],
)
def test_no_ngram_comes_twice(n, history, out):
    got = drawn(LOGITS, Sampling(no_repeat_ngram=n), history)
    assert set(got) == {0, 1, 2, 3, 4} - out


def test_a_rule_that_would_leave_nothing_gives_way():
    assert set(drawn(LOGITS, Sampling(no_repeat_ngram=1), [0, 1, 2, 3, 4])) == {0, 1, 2, 3, 4}
    assert set(drawn(LOGITS, Sampling(no_repeat_ngram=1, banned=(4,)), [0, 1, 2, 3])) == {
        0,
        1,
        2,
        3,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.nan},
        {"no_repeat_ngram": -2},
    ],
    ids=str,
)
def test_numbers_out_of_range(options):
    (name, value), *_ = options.items()
    with pytest.raises(TextError, match=f"{name}: expected .* got {value}"):
        Sampling(**options)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-30, 30), min_size=1, max_size=12),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 13),
    st.floats(0.01, 1),
)
def test_a_drawn_token_is_always_one_that_the_rules_leave(logits, uniform, top_k, top_p):
    row = round_logits(torch.tensor([logits], dtype=torch.float64))
    rules = Sampling(top_k=top_k, top_p=top_p)
    token = draw(row, rules, [row[0][:0].long()], torch.tensor([uniform], dtype=torch.float64))[0]
    order = sorted(range(len(logits)), key=lambda i: (-row[0, i].item(), i))
    likeliest = order[: top_k or len(logits)]
    p = row[0, likeliest].softmax(0)
    before = (p.cumsum(0) - p).tolist()
    kept = [i for i, share in zip(likeliest, before, strict=True) if share < top_p]
    assert int(token) in kept
