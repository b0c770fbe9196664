"""Bad arguments of the functions, and of the ops below them, which look again."""

from __future__ import annotations

import pytest
import torch
from oracle import CELLS, states_of, weights_of

from fusedrnn import _ops, functional


def good(cell="lstm", directions=2):
    """Arguments of functional.layer's public faces that are right."""
    w = [t.detach() for t in weights_of(cell, 3, 4, directions, dtype=torch.float32)]
    h0, c0 = (
        None if s is None else s.detach()
        for s in states_of(cell, 2, 4, directions, dtype=torch.float32)
    )
    return torch.randn(5, 2, 3), w, h0, c0


FUNCTION_CALLS = {
    "no weights": (ValueError, lambda x, w, h, c: (x, [], h, c)),
    "too few weights": (ValueError, lambda x, w, h, c: (x, w[:7], h, c)),
    "too many weights": (ValueError, lambda x, w, h, c: (x, [*w, *w], h, c)),
    "rows that are not gates": (RuntimeError, lambda x, w, h, c: (x, [w[0][1:], *w[1:]], h, c)),
    "1-D w_ih": (RuntimeError, lambda x, w, h, c: (x, [w[0][:, 0], *w[1:]], h, c)),
    "w_hh of another size": (
        RuntimeError,
        lambda x, w, h, c: (x, [w[0], w[1][:, 1:], *w[2:]], h, c),
    ),
    "bias of another size": (
        RuntimeError,
        lambda x, w, h, c: (x, [*w[:3], w[3][1:], *w[4:]], h, c),
    ),
    "directions that differ": (
        RuntimeError,
        lambda x, w, h, c: (x, [*w[:4], w[4][:, 1:], *w[5:]], h, c),
    ),
    "a weight of another dtype": (
        RuntimeError,
        lambda x, w, h, c: (x, [w[0], w[1].double(), *w[2:]], h, c),
    ),
    "a weight elsewhere": (
        RuntimeError,
        lambda x, w, h, c: (x, [w[0], w[1].to("meta"), *w[2:]], h, c),
    ),
    "2-D input": (ValueError, lambda x, w, h, c: (x[0], w, h, c)),
    "input of another dtype": (ValueError, lambda x, w, h, c: (x.double(), w, h, c)),
    "complex input": (ValueError, lambda x, w, h, c: (x.to(torch.complex64), w, h, c)),
    "input of another size": (RuntimeError, lambda x, w, h, c: (x[..., 1:], w, h, c)),
    "input elsewhere": (RuntimeError, lambda x, w, h, c: (x.to("meta"), w, h, c)),
    "no steps": (RuntimeError, lambda x, w, h, c: (x[:0], w, h, c)),
    "h0 of another batch": (RuntimeError, lambda x, w, h, c: (x, w, h[:, 1:], c)),
    "h0 of another dtype": (RuntimeError, lambda x, w, h, c: (x, w, h.double(), c)),
    "c0 of another size": (RuntimeError, lambda x, w, h, c: (x, w, h, c[..., 1:])),
    "3-D token ids": (ValueError, lambda x, w, h, c: (x.long(), w, h, c)),
    "token ids out of range": (IndexError, lambda x, w, h, c: (torch.full((5, 2), 3), w, h, c)),
}


@pytest.mark.parametrize("case", FUNCTION_CALLS)
def test_errors_of_the_functions(case):
    error, spoil = FUNCTION_CALLS[case]
    arguments = good()
    functional.lstm(*arguments, directions=2)
    with pytest.raises(error, match=r"[Ee]xpected .* got"):
        functional.lstm(*spoil(*arguments), directions=2)


def test_errors_of_the_functions_options():
    x, w, *_ = good()
    with pytest.raises(ValueError, match="1 or 2 directions, got 3"):
        functional.lstm(x, w, directions=3)
    with pytest.raises(ValueError, match="nonlinearity 'tanh' or 'relu', got 'gelu'"):
        functional.elman(x, w, nonlinearity="gelu")
    with pytest.raises(ValueError, match="expected lengths"):
        functional.lstm(x, w, directions=2, lengths=torch.tensor([6, 1]))
    with pytest.raises(ValueError, match="expected resets"):
        functional.lstm(x, w, directions=2, resets=torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 or 4 weights"):
        functional.gru(x, good("gru")[1][:3], directions=1)


# -- the ops, which look again --------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_the_native_op_checks_too(cell):
    """Called directly, past all checks in Python, a bad call is still an error and not a crash."""
    x, w, h0, c0 = good(cell)

    def call(x=x, h0=h0, c0=c0, w=w, lengths=None, resets=None, cell=cell, directions=2):
        return _ops.layer_forward(x, h0, c0, w, lengths, resets, cell, directions, True, False)

    call()
    bad = [
        {"x": x[:0]},
        {"x": x[..., 1:]},
        {"x": x.double()},
        {"x": torch.full((5, 2), 3)},
        {"x": torch.full((5, 2), -1)},
        {"h0": h0[..., 1:]},
        {"h0": h0.double()},
        {"w": w[:3]},
        {"w": [w[0], w[1][1:], *w[2:]]},
        {"lengths": torch.tensor([6, 1])},
        {"lengths": torch.tensor([-1, 1])},
        {"lengths": torch.tensor([1, 1], dtype=torch.int32)},
        {"resets": torch.zeros(2, 5, dtype=torch.bool)},
        {"directions": 3},
    ]
    for spoiled in bad:
        with pytest.raises(RuntimeError, match="expected"):
            call(**spoiled)
