"""What a user of CUDA counts on beside right numbers: no waiting, graphs, streams, the same bits."""

from __future__ import annotations

import copy

import pytest
import torch
from on_gpu import call
from oracle import CELLS

import fusedrnn
from fusedrnn import _C, _ops, functional
from fusedrnn.tolerances import check, error

HALF_AND_SINGLE = (torch.bfloat16, torch.float32)


@pytest.fixture(params=["cluster", "grid"])
def large(request, monkeypatch):
    """The families of large H: what the plan chooses for the small shapes here is neither."""
    monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", request.param)
    major, minor = torch.cuda.get_device_capability()
    if request.param == "cluster" and _C.largest_cluster(10 * major + minor) < 16:
        pytest.skip("needs clusters of 16 blocks")
    return request.param


def planned(family, cell, *shape):
    plans = fusedrnn.cuda_plan(cell, *shape, dtype=torch.bfloat16, device="cuda")
    assert [plans[way]["family"] for way in ("forward", "backward")] == [family] * 2


def train_step(args):
    """Outputs and all gradients of one call."""
    x, h0, c0, weights, *_ = args
    outputs = [t for t in functional.layer(*args) if t.dim() > 1]
    inputs = [t for t in (x, h0, c0, *weights) if t is not None and t.requires_grad]
    return [*outputs, *torch.autograd.grad(outputs, inputs, [torch.ones_like(t) for t in outputs])]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE)
def test_the_same_bits_every_time(family, cell, dtype):
    args = call(cell, 40, 20, 30, 96, dtype, directions=2, lengths=True, resets=True)
    first = train_step(args)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, train_step(args), strict=True))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE)
def test_never_waits_for_the_device(family, cell, ids, dtype):
    args = call(cell, 8, 6, 12, 64, dtype, lengths=True, resets=True, ids=ids, directions=2)
    x, h0, c0, weights, lengths, resets, _, directions = args
    train_step(args)
    try:
        torch.cuda.set_sync_debug_mode("error")
        out = _ops.layer_forward(
            x.detach(), h0.detach(), None if c0 is None else c0.detach(),
            [w.detach() for w in weights], lengths, resets, cell, directions, True, False,
        )  # fmt: skip
        _ops.layer_backward(
            out[0], out[1], None if c0 is None else out[2], x.detach(), h0.detach(),
            None if c0 is None else c0.detach(), [w.detach() for w in weights], lengths, resets,
            out[0], *out[3:], cell, directions, True, True, False,
        )  # fmt: skip
        train_step(args)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# The leaves are made on the default stream, on purpose: so are a user's parameters.
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE)
def test_in_a_cuda_graph(family, cell, dtype):
    replay(call(cell, 12, 9, 16, 64, dtype, lengths=True, resets=True, directions=2))


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
@pytest.mark.parametrize("cell", CELLS)
def test_large_persistent_families_in_a_cuda_graph(large, cell):
    """Flags that are cleared by each call, and clusters of a size that a kernel must be allowed."""
    planned(large, cell, 12, 5, 16, 512)
    replay(call(cell, 12, 5, 16, 512, torch.bfloat16, lengths=True, resets=True, directions=2))


def replay(args):
    """A captured training step against one that is not, on other inputs."""
    x = args[0]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train_step(args)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = train_step(args)
    for seed in (1, 2):
        with torch.no_grad():
            x.copy_(torch.randn_like(x, dtype=torch.float32) * seed)
        graph.replay()
        wanted = train_step(args)
        assert all(torch.equal(a, b) for a, b in zip(captured, wanted, strict=True))


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
@pytest.mark.parametrize("cell", CELLS)
def test_on_the_callers_stream(family, cell):
    on_two_streams(call(cell, 30, 8, 16, 64, torch.float32))


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
@pytest.mark.parametrize("cell", CELLS)
def test_large_persistent_families_on_the_callers_stream(large, cell):
    planned(large, cell, 30, 8, 16, 512)
    on_two_streams(call(cell, 30, 8, 16, 512, torch.bfloat16))


def on_two_streams(args):
    """At once, with inputs that are still being made when the call comes."""
    wanted = train_step(args)
    streams = [torch.cuda.Stream() for _ in range(2)]
    got = []
    torch.cuda.synchronize()
    for s in streams:
        with torch.cuda.stream(s):
            torch.cuda._sleep(20_000_000)
            late = (args[0].detach() * 1).requires_grad_()
            got.append(train_step((late, *args[1:])))
    torch.cuda.synchronize()
    for result in got:
        assert all(torch.equal(a, b) for a, b in zip(result, wanted, strict=True))


def test_on_every_device(family):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    model = fusedrnn.LSTM(8, 32, 2)
    x = torch.randn(5, 3, 8)
    wanted = model(x)[0]
    for i in range(torch.cuda.device_count()):
        y, _ = copy.deepcopy(model).to(f"cuda:{i}")(x.to(f"cuda:{i}"))
        assert y.device.index == i
        check(y.cpu(), wanted.double(), torch.float32, f"cuda:{i}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE)
def test_a_graph_can_be_walked_twice(family, cell, dtype):
    args = call(cell, 6, 4, 8, 64, dtype)
    outputs = [t for t in functional.layer(*args) if t.dim() > 1]
    seeds = [torch.ones_like(t) for t in outputs]
    inputs = [args[0], *args[3]]
    first = torch.autograd.grad(outputs, inputs, seeds, retain_graph=True)
    again = torch.autograd.grad(outputs, inputs, seeds)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_float32_is_exact_unless_tf32_is_allowed(family):
    """Whatever torch's flag for plain products says."""
    args = call("lstm", 20, 16, 256, 256, torch.float32)
    x, h0, c0, weights, *_ = args
    exact = functional.layer(
        x.double(), h0.double(), c0.double(), [w.double() for w in weights], *args[4:]
    )[0]
    before = torch.backends.cuda.matmul.allow_tf32
    results = {}
    try:
        for products in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = products
            for layers in (False, True):
                plain = [t.detach() for t in (x, h0, c0)]
                out = _ops.layer_forward(
                    *plain, [w.detach() for w in weights], None, None, "lstm", 1, False, layers
                )
                results[products, layers] = error(out[0], exact)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert max(results[False, False], results[True, False]) < 1e-5, results
    assert max(results[False, True], results[True, True]) < 5e-3, results
    assert results[True, False] == results[False, False]


def test_sequences_of_65536_steps(family):
    """Offsets and launch counts, and the state after them, against pieces of the sequence."""
    torch.manual_seed(0)
    model = fusedrnn.LSTM(4, 40).cuda()
    x = torch.randn(65536, 1, 4, device="cuda")
    with torch.no_grad():
        y, (h, c) = model(x)
        state = None
        for piece in x.split(16384):
            last, state = model(piece, state)
    check(y[-16384:], last.double(), torch.float32, "the last piece")
    check(h, state[0].double(), torch.float32, "h_n")
    check(c, state[1].double(), torch.float32, "c_n")


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_more_than_two_to_the_31_elements(family, dtype):
    compare_the_last_rows(dtype)


def test_more_than_two_to_the_31_elements_in_clusters(monkeypatch):
    """Which the plan does not choose: there are hundreds of turns of them."""
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("needs thread-block clusters")
    monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", "cluster")
    planned("cluster", "elman_tanh", 300, 114_000, 1, 64)
    compare_the_last_rows(torch.bfloat16)


def compare_the_last_rows(dtype):
    torch.manual_seed(0)
    free, _ = torch.cuda.mem_get_info()
    if free < 40 << 30:
        pytest.skip(f"needs 40 GB of free device memory, got {free >> 30}")
    steps, batch = 300, 114_000
    model = fusedrnn.RNN(1, 64, bias=False, dtype=dtype).cuda()
    x = torch.randn(steps, batch, 1, device="cuda", dtype=dtype)
    with torch.no_grad():
        y, _ = model(x)
        assert y.numel() > 2**31
        wanted, _ = model(x[:, -64:].contiguous())
    check(y[:, -64:], wanted.double(), dtype, "the last rows")


def test_a_token_id_out_of_range_is_seen(family):
    w = [torch.randn(4 * 8, 5, device="cuda"), torch.randn(4 * 8, 8, device="cuda")]
    ids = torch.tensor([[0, 4], [5, 2]], device="cuda")
    y = _ops.layer_forward(ids, None, None, w, None, None, "lstm", 1, False, False)[0]
    assert y[1, 0].isnan().all()
    assert not y[:, 1].isnan().any()
    assert not y[0].isnan().any()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_layers_agree_with_torch(family, name):
    torch.manual_seed(0)
    ours = getattr(fusedrnn, name)(20, 64, 2, bidirectional=True, batch_first=True).cuda()
    theirs = getattr(torch.nn, name)(20, 64, 2, bidirectional=True, batch_first=True).cuda()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(6, 15, 20, device="cuda")
    a, b = ours(x)[0], theirs(x)[0]
    a.square().sum().backward()
    b.square().sum().backward()
    # cuDNN is itself about 1e-5 away from the float64 reference here.
    assert error(a, b.double()) < 1e-4
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert error(p.grad, q.grad.double()) < 5e-4, key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(family, dtype):
    model = fusedrnn.GRU(12, 64).cuda()
    x = torch.randn(9, 4, 12, device="cuda")
    with torch.autocast("cuda", dtype):
        y, h = model(x)
    assert y.dtype == h.dtype == dtype
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    check(y, model.double()(x.double())[0], dtype, "output")


def test_an_empty_batch(family):
    model = fusedrnn.LSTM(3, 16).cuda()
    x = torch.zeros(4, 0, 3, device="cuda", requires_grad=True)
    y, _ = model(x)
    y.sum().backward()
    assert y.shape == (4, 0, 16)
    assert all(not p.grad.any() for p in model.parameters())
