"""RNNCell, LSTMCell and GRUCell against torch.nn's."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import DTYPES
from torch import nn

import fusedrnn
from fusedrnn.tolerances import check

F64 = torch.float64
NAMES = ("RNNCell", "LSTMCell", "GRUCell")
KINDS = [
    ("RNNCell", {"nonlinearity": "tanh"}),
    ("RNNCell", {"nonlinearity": "relu"}),
    ("LSTMCell", {}),
    ("GRUCell", {}),
]


def pair(name, dtype=F64, **options):
    torch.manual_seed(0)
    ours = getattr(fusedrnn, name)(3, 4, dtype=dtype, **options)
    torch.manual_seed(0)
    theirs = getattr(nn, name)(3, 4, dtype=dtype, **options)
    return ours, theirs.double()


def parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize(
    ("kind", "bias", "batch", "given"),
    list(itertools.product(range(4), (True, False), (None, 0, 1, 5), (False, True))),
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_outputs_and_gradients_are_torchs(kind, bias, batch, given, dtype):
    name, options = KINDS[kind]
    ours, theirs = pair(name, dtype, bias=bias, **options)
    torch.manual_seed(1)
    lead = () if batch is None else (batch,)
    x = torch.randn(*lead, 3).to(dtype)
    state = [torch.randn(*lead, 4).to(dtype) for _ in range(1 + (name == "LSTMCell"))]
    seeds = [torch.randn(*lead, 4).to(dtype) for _ in state]
    results = []
    for module in (ours, theirs):
        own = next(module.parameters()).dtype
        inputs = [t.to(own).clone().requires_grad_() for t in (x, *(state if given else ()))]
        hx = None if not given else tuple(inputs[1:]) if len(inputs) > 2 else inputs[1]
        outputs = parts(module(inputs[0], hx))
        gradients = torch.autograd.grad(
            outputs, [*inputs, *module.parameters()], [s.to(own) for s in seeds]
        )
        results.append((outputs, gradients))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        check(a, b, dtype, "output")
    for a, b in zip(results[0][1], results[1][1], strict=True):
        check(a, b, dtype, "gradient", gradient=True)


@pytest.mark.parametrize(("name", "options"), KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_as_modules(name, options, bias):
    ours, theirs = pair(name, bias=bias, **options)
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert ours.bias_ih is None if not bias else ours.bias_ih is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_cells_is_the_layer(name):
    torch.manual_seed(0)
    cell = getattr(fusedrnn, name)(3, 4, dtype=F64)
    layer = getattr(fusedrnn, name.removesuffix("Cell"))(3, 4, dtype=F64)
    layer.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    x, hx = torch.randn(5, 2, 3, dtype=F64), None
    outputs = []
    for x_t in x:
        hx = cell(x_t, hx)
        outputs.append(parts(hx)[0])
    torch.testing.assert_close(torch.stack(outputs), layer(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_token_ids(name):
    cell = getattr(fusedrnn, name)(3, 4)
    ids = torch.tensor([2, 0, 1])
    rows = nn.functional.one_hot(ids, 3).float()
    torch.testing.assert_close(cell(ids), cell(rows))
    torch.testing.assert_close(cell(ids[0]), cell(rows[0]))


@pytest.mark.parametrize("name", NAMES)
def test_strided_and_expanded(name):
    cell = getattr(fusedrnn, name)(3, 4, dtype=F64)
    x = torch.randn(3, 5, dtype=F64).t().requires_grad_()
    h = torch.randn(4, dtype=F64).expand(5, 4)
    hx = (h, h) if name == "LSTMCell" else h
    torch.testing.assert_close(
        cell(x, hx),
        cell(x.contiguous(), (h.clone(), h.clone()) if name == "LSTMCell" else h.clone()),
    )
    parts(cell(x, hx))[0].sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name):
    cell = getattr(fusedrnn, name)(3, 4, dtype=F64)
    x = torch.randn(2, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: cell(v), x)
    torch.testing.assert_close(
        torch.func.vmap(lambda v: parts(cell(v))[0])(x), torch.stack([parts(cell(v))[0] for v in x])
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compile(name):
    torch._dynamo.reset()
    cell = getattr(fusedrnn, name)(3, 4)
    x = torch.randn(2, 3)
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), cell(x))


ERRORS = {
    "3-D input": lambda: (torch.randn(2, 2, 3),),
    "0-D input": lambda: (torch.tensor(1.0),),
    "wrong input size": lambda: (torch.randn(2, 5),),
    "wrong input size, unbatched": lambda: (torch.randn(5),),
    "wrong hidden size": lambda: (torch.randn(2, 3), torch.randn(2, 5)),
    "wrong batch of hx": lambda: (torch.randn(2, 3), torch.randn(3, 4)),
    "3-D hx": lambda: (torch.randn(2, 3), torch.randn(1, 2, 4)),
    "2-D hx for 1-D input": lambda: (torch.randn(3), torch.randn(2, 4)),
    "wrong dtype": lambda: (torch.randn(2, 3).double(),),
    "wrong dtype of hx": lambda: (torch.randn(2, 3), torch.randn(2, 4).double()),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_torchs(name, case):
    errors = []
    for family in (fusedrnn, nn):
        x, *hx = ERRORS[case]()
        if hx and name == "LSTMCell":
            hx = [(hx[0], hx[0])]
        with pytest.raises(Exception) as caught:  # noqa: PT011  its type is the matter of the test
            getattr(family, name)(3, 4)(x, *hx)
        errors.append(caught.type)
    assert errors[0] is errors[1]


def test_unknown_nonlinearity():
    for family in (fusedrnn, nn):
        with pytest.raises(RuntimeError):
            family.RNNCell(3, 4, nonlinearity="gelu")(torch.randn(2, 3))
