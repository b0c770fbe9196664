"""torch.compile and torch.export of the layers, in float64 against the same layers run eagerly."""

from __future__ import annotations

import io

import pytest
import torch
from oracle import random_options
from torch.autograd import grad
from torch.func import jacrev, jvp, vmap

import fusedrnn

# torch's own, from inside jvp, torch.compile and torch.export
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]

F64 = torch.float64
I, H = 3, 4  # noqa: E741

options = pytest.mark.parametrize("options", [False, True], ids=["plain", "lengths-resets"])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


LAYERS = {
    "RNN": {"nonlinearity": "relu"},
    "LSTM": {"proj_size": 2},
    "GRU": {},
}
layers = pytest.mark.parametrize("name", LAYERS)


def build(name):
    torch.manual_seed(0)
    return getattr(fusedrnn, name)(I, H, 2, bidirectional=True, dtype=F64, **LAYERS[name])


def forward_and_gradients(function, module, x, **options):
    x = x.detach().clone().requires_grad_() if x.is_floating_point() else x
    y, state = function(x, **options)
    states = state if isinstance(state, tuple) else (state,)
    total = y.sin().sum() + sum(s.square().sum() for s in states)
    inputs = [t for t in (x, *module.parameters()) if t.requires_grad]
    return y, states, grad(total, inputs)


def sizes(options):
    """Inputs of growing and shrinking sizes."""
    for steps, batch in ((5, 2), (7, 4), (4, 6)):
        lengths, resets = random_options(steps, batch)
        kwargs = {"lengths": lengths, "resets": resets} if options else {}
        yield torch.randn(steps, batch, I, dtype=F64), kwargs


@layers
@options
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(name, options, backend):
    """The whole graph, forward and backward, one compilation for all sizes."""
    torch._dynamo.reset()
    module = build(name)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for x, kwargs in sizes(options):
        close(
            forward_and_gradients(compiled, module, x, **kwargs),
            forward_and_gradients(module, module, x, **kwargs),
        )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1
    with torch.no_grad():
        close(compiled(x, **kwargs), module(x, **kwargs))


@layers
def test_compile_token_ids_and_automatic_dynamic_shapes(name):
    torch._dynamo.reset()
    module = build(name)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for steps, batch in ((4, 3), (6, 3), (5, 2)):
        ids = torch.randint(0, I, (steps, batch))
        close(
            forward_and_gradients(compiled, module, ids), forward_and_gradients(module, module, ids)
        )


@layers
def test_double_backward_of_a_compiled_graph(name):
    """The op in the graph dissolves at run time, so a graph that is run as it is has every derivative.

    (AOTAutograd, which the other backends are built on, refuses to differentiate twice.)
    """
    torch._dynamo.reset()
    module = build(name)
    x = torch.randn(4, 2, I, dtype=F64, requires_grad=True)

    def penalty(function):
        (dx,) = grad(function(x)[0].sum(), x, create_graph=True)
        return grad(dx.square().sum(), [x, module.weight_hh_l0])

    close(penalty(torch.compile(module, fullgraph=True, backend="eager")), penalty(module))


@layers
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp", "jacrev of jacrev"])
def test_compile_through_transforms(name, transform):
    """torch.func inside torch.compile."""
    torch._dynamo.reset()
    module = getattr(fusedrnn, name)(2, 3, dtype=F64)
    x = torch.randn(2, 1, 2, dtype=F64)

    def run(x):
        if transform == "grad":
            return torch.func.grad(lambda v: module(v)[0].sum())(x)
        if transform == "vmap":
            return vmap(lambda v: module(v)[0])(torch.stack([x, -x]))
        if transform == "jvp":
            return jvp(lambda v: module(v)[0], (x,), (x,))
        return jacrev(jacrev(lambda v: module(v)[0][-1, 0, 0]))(x)

    close(torch.compile(run, fullgraph=True, backend="aot_eager")(x), run(x))


# -- torch.export ---------------------------------------------------------------------------------


@layers
@options
@pytest.mark.parametrize("strict", [False, True])
def test_export(name, options, strict):
    """Dynamic sizes; the program trains, survives a file, and decomposes to the native op."""
    module = build(name)
    (x, kwargs), *others = sizes(options)
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    shapes = {"input": {0: steps, 1: batch}}
    if options:
        shapes |= {"lengths": {0: batch}, "resets": {0: steps, 1: batch}}
    program = torch.export.export(module, (x,), kwargs, dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    for x, kwargs in others:
        close(
            forward_and_gradients(exported, exported, x, **kwargs),
            forward_and_gradients(module, module, x, **kwargs),
        )
    lowered = program.run_decompositions()
    targets = [str(n.target) for n in lowered.graph.nodes if n.op == "call_function"]
    assert targets.count("fusedrnn.layer_forward.default") == module.num_layers
    close(lowered.module()(x, **kwargs), module(x, **kwargs))
