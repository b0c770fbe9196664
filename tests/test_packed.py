"""PackedSequence in and out, as torch.nn has it."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import states_of, weights_of
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import fusedrnn
from benchmarks.memory import saved_bytes
from fusedrnn import _ops, _packed, functional, reference

F64 = torch.float64
NAMES = ("RNN", "LSTM", "GRU")


def pair(name, dtype=F64, **options):
    theirs = getattr(nn, name)(3, 4, dtype=dtype, **options)
    ours = getattr(fusedrnn, name)(3, 4, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_same(ours, theirs, packed_x, padded, hx):
    """Outputs, indices, states and all gradients."""
    results = []
    for module in (ours, theirs):
        y, state = module(packed_x, hx)
        states = state if isinstance(state, tuple) else (state,)
        total = (y.data * torch.arange(y.data.numel()).view_as(y.data).cos()).sum()
        total = total + sum(s.sin().sum() for s in states)
        results.append(
            (
                y.data,
                state,
                torch.autograd.grad(total, [padded, *module.parameters()], retain_graph=True),
            )
        )
        assert torch.equal(y.batch_sizes, packed_x.batch_sizes)
        assert y.sorted_indices is packed_x.sorted_indices
        assert y.unsorted_indices is packed_x.unsorted_indices
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


GRID = list(itertools.product(NAMES, (False, True), (1, 2), ("sorted", "unsorted"), (False, True)))


@pytest.mark.parametrize(("name", "bidirectional", "layers", "order", "given"), GRID)
def test_packed_in_and_out(name, bidirectional, layers, order, given):
    torch.manual_seed(0)
    options = {"proj_size": 2} if name == "LSTM" and layers == 2 else {}
    ours, theirs = pair(name, bidirectional=bidirectional, num_layers=layers, **options)
    lengths = [6, 4, 4, 1] if order == "sorted" else [4, 1, 6, 4]
    padded = torch.randn(6, 4, 3, dtype=F64, requires_grad=True)
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=order == "sorted")
    count = layers * (1 + bidirectional)
    h = torch.randn(count, 4, options.get("proj_size", 4), dtype=F64)
    c = torch.randn(count, 4, 4, dtype=F64)
    hx = None if not given else (h, c) if name == "LSTM" else h
    assert_same(ours, theirs, packed, padded, hx)


@pytest.mark.parametrize("name", NAMES)
def test_batch_first_does_not_concern_packed_data(name):
    torch.manual_seed(0)
    ours, theirs = pair(name, batch_first=True)
    padded = torch.randn(3, 5, 3, dtype=F64, requires_grad=True)
    packed = pack_padded_sequence(padded, [5, 2, 3], batch_first=True, enforce_sorted=False)
    assert_same(ours, theirs, packed, padded, None)


@pytest.mark.parametrize("name", NAMES)
def test_one_row_and_one_step(name):
    torch.manual_seed(0)
    ours, theirs = pair(name)
    for steps, lengths in ((5, [5]), (1, [1, 1, 1])):
        padded = torch.randn(steps, len(lengths), 3, dtype=F64, requires_grad=True)
        assert_same(ours, theirs, pack_padded_sequence(padded, lengths), padded, None)


@pytest.mark.parametrize("name", NAMES)
def test_packed_token_ids(name):
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True)
    rows = [torch.randint(0, 3, (n,)) for n in (2, 5, 3)]
    y_ids, state_ids = ours(pack_sequence(rows, enforce_sorted=False))
    one_hot = [nn.functional.one_hot(r, 3).to(F64) for r in rows]
    y, state = ours(pack_sequence(one_hot, enforce_sorted=False))
    torch.testing.assert_close((y_ids.data, state_ids), (y.data, state), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recompute", [False, True])
def test_packed_is_lengths(name, dtype, recompute):
    """The same numbers as a padded tensor with lengths=, bit for bit, gradients too."""
    torch.manual_seed(0)
    ours, _ = pair(name, dtype, bidirectional=True, num_layers=2)
    ours.recompute = recompute
    lengths = torch.tensor([6, 4, 3, 1])
    x = torch.randn(6, 4, 3, dtype=dtype, requires_grad=True)
    y_packed, state_packed = ours(pack_padded_sequence(x, lengths))
    y, state = ours(x, lengths=lengths)
    assert torch.equal(y_packed.data, pack_padded_sequence(y, lengths).data)
    torch.testing.assert_close(state_packed, state, rtol=0, atol=0)
    dy = torch.randn_like(y)
    wanted = torch.autograd.grad(y, [x, *ours.parameters()], dy)
    d_packed = pack_padded_sequence(dy, lengths).data
    got = torch.autograd.grad(y_packed.data, [x, *ours.parameters()], d_packed)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_more_is_kept_for_backward_than_torch_keeps(name, bidirectional):
    theirs = getattr(nn, name)(8, 16, bidirectional=bidirectional)
    ours = fusedrnn.from_torch(theirs)
    packed = pack_padded_sequence(torch.randn(20, 3, 8), [20, 9, 2])
    packed = packed._replace(data=packed.data.clone().requires_grad_())
    given = [packed.data, *theirs.parameters()]
    kept = saved_bytes(lambda: ours(packed), given)
    assert 0 < kept <= saved_bytes(lambda: theirs(packed), given)
    units = {"RNN": 1, "GRU": 5, "LSTM": 6}[name]  # docs/layers.md, a direction of a valid step
    assert kept == (20 + 9 + 2) * 16 * 4 * units * (1 + bidirectional) + 3 * 8  # and the lengths


@pytest.mark.parametrize("name", NAMES)
def test_dropout_between_layers_draws_as_torch_draws(name):
    ours, theirs = pair(name, num_layers=3, dropout=0.5)
    packed = pack_padded_sequence(torch.randn(6, 4, 3, dtype=F64), [6, 4, 4, 1])
    outputs = []
    for module in (ours, theirs):
        torch.manual_seed(5)
        outputs.append(module(packed)[0].data)
    torch.testing.assert_close(*outputs)


def of_packed(module, packed):
    """``module`` as a function of the data and the parameters: the outputs in one tensor."""

    def function(data, parameters):
        y, state = torch.func.functional_call(module, parameters, (packed._replace(data=data),))
        states = state if isinstance(state, tuple) else (state,)
        return torch.cat([t.flatten() for t in (y.data, *states)])

    return function


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_every_derivative(name):
    """Second, forward-mode and batched ones, and transforms, are those of torch.nn in plain autograd."""
    torch.manual_seed(0)
    ours, theirs = pair(name, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(4, 3, 3, dtype=F64), [4, 2, 1])
    parameters = {n: p.detach() for n, p in ours.named_parameters()}
    data = packed.data.clone().requires_grad_()
    f, g = of_packed(ours, packed), of_packed(theirs, packed)
    weights = torch.linspace(-1, 1, f(data, parameters).numel(), dtype=F64)

    def loss(function):
        return lambda d, p=parameters: (function(d, p) * weights).sin().sum()

    def second(function):
        (first,) = torch.autograd.grad(loss(function)(data), data, create_graph=True)
        return torch.autograd.grad(first.square().sum(), data)[0]

    torch.testing.assert_close(second(f), second(g))
    jacobian = torch.autograd.functional.jacobian(lambda d: g(d, parameters), data)
    plain = data.detach()
    torch.testing.assert_close(torch.func.jacrev(f)(plain, parameters), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(f)(plain, parameters), jacobian)
    rows = torch.eye(len(jacobian), dtype=F64)
    (batched,) = torch.autograd.grad(f(data, parameters), data, rows, is_grads_batched=True)
    torch.testing.assert_close(batched, jacobian)
    several = torch.stack([plain, 2 * plain])
    torch.testing.assert_close(
        torch.vmap(f, (0, None))(several, parameters),
        torch.stack([g(d, parameters).detach() for d in several]),
    )
    per_row = torch.vmap(torch.func.grad(loss(f), 1), (0, None))(several, parameters)
    for i, d in enumerate(several):
        own = {n: p.clone().requires_grad_() for n, p in parameters.items()}
        wanted = torch.autograd.grad(loss(g)(d, own), list(own.values()))
        torch.testing.assert_close([per_row[n][i] for n in own], list(wanted))


@pytest.mark.parametrize("name", NAMES)
def test_autocast(name):
    ours, _ = pair(name, torch.float32, num_layers=2)
    x, lengths = torch.randn(5, 3, 3), torch.tensor([5, 3, 1])
    with torch.autocast("cpu", torch.bfloat16):
        y_packed = ours(pack_padded_sequence(x, lengths))[0].data
        y = ours(x, lengths=lengths)[0]
    assert y_packed.dtype == torch.bfloat16
    assert torch.equal(y_packed, pack_padded_sequence(y, lengths).data)


def test_sizes_and_lengths_are_the_same_thing():
    for lengths in ([3], [1, 1], [7, 5, 5, 1], [4, 3, 2, 1]):
        packed = pack_padded_sequence(torch.randn(max(lengths), len(lengths), 2), lengths)
        given = torch.tensor(lengths)
        assert torch.equal(_packed.lengths(packed.batch_sizes), given)
        assert torch.equal(_packed.sizes(given), packed.batch_sizes)
        padded = _packed.pad(packed.data, packed.batch_sizes, len(lengths))
        assert torch.equal(_packed.pack(padded, packed.batch_sizes), packed.data)


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman_tanh"])
def test_rows_without_steps(cell):
    """The op takes them, as with padded data; a PackedSequence has none."""
    torch.manual_seed(0)
    lengths = torch.tensor([3, 2, 0])
    weights = [w.detach() for w in weights_of(cell, 3, 4, 2, dtype=F64)]
    h0, c0 = (None if s is None else s.detach() for s in states_of(cell, 3, 4, 2, dtype=F64))
    x = torch.randn(5, 3, dtype=F64, requires_grad=True)
    y, h_n, _ = functional.layer(x, h0, c0, weights, lengths, None, cell, 2)
    want, h, _ = reference.layer(x, h0, c0, weights, lengths, None, cell, 2)
    torch.testing.assert_close((y, h_n), (want, h))
    assert torch.equal(h_n[:, 2], h0[:, 2])
    seconds = []
    for out in (y, want):
        (dx,) = torch.autograd.grad(out.sin().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(dx.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)


WRONG = {
    "lengths that grow": (6, [2, 4], None, "do not increase.* got 4 at row 1"),
    "negative lengths": (2, [3, -1], None, "not negative, got -1 at row 1"),
    "too few rows": (5, [4, 2], None, "rows of packed data as its lengths add up to, got 5"),
    "too many rows": (7, [4, 2], None, "lengths add up to, got 7"),
    "endless lengths": (3, [2**62, 2**62], None, "lengths add up to, got 3"),
    "resets": (6, [4, 2], torch.zeros(4, 2, dtype=torch.bool), "no resets with packed data"),
    "no rows at all": (0, [0, 0], None, "at least one time step"),
    "an empty batch": (0, [], None, "lengths of shape .B. with packed data"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_op_refuses(case):
    rows, lengths, resets, message = WRONG[case]
    weights = [torch.randn(4, 3), torch.randn(4, 4)]
    lengths = torch.tensor(lengths, dtype=torch.int64)
    data = (torch.randn(rows, 3), None, None, weights, lengths, resets)
    with pytest.raises(RuntimeError, match=message):
        _ops.layer_forward(*data, cell="elman_tanh", directions=1, save=False, tf32=False)


def test_data_that_do_not_fit_their_sizes():
    ours, _ = pair("GRU")
    packed = pack_padded_sequence(torch.randn(4, 2, 3, dtype=F64), [4, 2])
    with pytest.raises(RuntimeError, match=r"as many rows .* as its lengths add up to, got 5"):
        ours(packed._replace(data=packed.data[:-1]))
    ids = pack_sequence([torch.tensor([0, 1, 2]), torch.tensor([1])])
    with pytest.raises(IndexError, match="token ids in"):
        ours(ids._replace(data=ids.data + 1))


def test_options_that_packed_data_has_already():
    ours, _ = pair("GRU")
    packed = pack_padded_sequence(torch.randn(4, 2, 3, dtype=F64), [4, 2])
    with pytest.raises(ValueError, match="neither lengths nor resets"):
        ours(packed, lengths=torch.tensor([4, 2]))
    with pytest.raises(ValueError, match="neither lengths nor resets"):
        ours(packed, resets=torch.zeros(4, 2, dtype=torch.bool))


@pytest.mark.parametrize("name", NAMES)
def test_rows_keep_to_themselves(name):
    """A NaN in one row is in no output, state or input gradient of another, whatever fills the padding."""
    ours, _ = pair(name, bidirectional=True)
    rows = [torch.randn(n, 3, dtype=F64) for n in (5, 4, 1)]
    rows[0][0] = torch.nan
    rows = [row.requires_grad_() for row in rows]
    y, state = ours(pack_sequence(rows))
    outputs = nn.utils.rnn.unpack_sequence(y)
    gradients = torch.autograd.grad(sum(t.sum() for t in outputs), rows)
    states = state if isinstance(state, tuple) else (state,)
    for i in (1, 2):
        assert outputs[i].isfinite().all()
        assert gradients[i].isfinite().all()
        assert all(s[:, i].isfinite().all() for s in states)
    assert outputs[0].isnan().any()
