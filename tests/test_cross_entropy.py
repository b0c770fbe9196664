"""The loss of a linear head in one pass, `fusedrnn.functional.linear_cross_entropy`."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from oracle import as_double
from torch import library

from fusedrnn import _ops, functional
from fusedrnn.functional import linear_cross_entropy
from fusedrnn.tolerances import check

OP = torch.ops.fusedrnn.linear_cross_entropy.default
# torch's own, from inside jvp
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)

F32, F64 = torch.float32, torch.float64
# N, H, V: around the width of a register, around a tile, several chunks of rows, several parts of a sum
SHAPES = (
    (1, 1, 1),
    (5, 7, 9),
    (13, 16, 28),
    (32, 33, 65),
    (400, 20, 130),
    (40, 600, 70),
    (30, 12, 1100),
)


def data_of(shape, dtype=F32, bias=True, ignored=()):
    """x, weight, bias that want gradients, and labels."""
    rows, features, classes = shape
    x, w = torch.randn(rows, features, dtype=dtype), torch.randn(classes, features, dtype=dtype)
    b = torch.randn(classes, dtype=dtype) if bias else None
    labels = torch.randint(0, classes, (rows,))
    if ignored:
        labels[list(ignored)] = -100
    for t in (x, w, b):
        if t is not None:
            t.requires_grad_()
    return x, w, b, labels


def by_definition(x, w, b, labels, reduction="mean", ignored=-100, factor=1.0):
    """Loss and gradients in float64."""
    given = [as_double(t).detach().requires_grad_() for t in (x, w, b) if t is not None]
    logits = given[0] @ given[1].t() + (given[2] if b is not None else 0)
    loss = F.cross_entropy(logits, labels, reduction=reduction, ignore_index=ignored)
    return loss, torch.autograd.grad(loss, given, torch.tensor(factor, dtype=F64))


def ours(x, w, b, labels, reduction="mean", ignored=-100, factor=1.0):
    loss = linear_cross_entropy(
        x, w, labels, linear_bias=b, reduction=reduction, ignore_index=ignored
    )
    given = [t for t in (x, w, b) if t is not None]
    return loss, torch.autograd.grad(loss, given, torch.tensor(factor, dtype=x.dtype))


def assert_right(dtype, got, expected):
    check(got[0], expected[0], dtype, "loss")
    for name, a, b in zip(("dx", "dw", "db"), got[1], expected[1], strict=False):
        assert a.dtype == dtype
        check(a, b, dtype, name, gradient=True)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients(shape, dtype):
    torch.manual_seed(1)
    for bias, reduction, factor in itertools.product((True, False), ("mean", "sum"), (1.0, -2.5)):
        ignored = range(1, shape[0], 4)
        given = data_of(shape, dtype, bias, ignored)
        options = {"reduction": reduction, "factor": factor}
        assert_right(dtype, ours(*given, **options), by_definition(*given, **options))


def test_any_index_can_be_ignored():
    x, w, b, labels = data_of((40, 5, 6))
    assert (labels == 2).any()
    assert torch.equal(ours(x, w, b, labels, ignored=None)[0], ours(x, w, b, labels)[0])
    got, expected = (f(x, w, b, labels, ignored=2) for f in (ours, by_definition))
    assert_right(F32, got, expected)
    assert got[1][0][labels == 2].abs().max() == 0


def test_all_rows_ignored():
    x, w, b, labels = data_of((3, 4, 5), ignored=(0, 1, 2))
    mean, sums = (ours(x, w, b, labels, reduction=each) for each in ("mean", "sum"))
    assert mean[0].isnan()
    assert sums[0].item() == 0
    assert all(g.abs().max() == 0 for g in (*mean[1], *sums[1]))


def test_no_rows():
    x, w, b, labels = data_of((0, 4, 5))
    loss, grads = ours(x, w, b, labels, reduction="sum")
    assert loss.item() == 0
    assert [g.shape for g in grads] == [(0, 4), (5, 4), (5,)]
    assert all((g == 0).all() for g in grads)


def test_leading_dimensions_strides_and_integer_dtypes():
    x, w, b, labels = data_of((24, 6, 9))
    expected = ours(x, w, b, labels)
    strided = [torch.empty(*t.shape, 2)[..., 0].copy_(t).detach() for t in (x, w, b)]
    for t in strided:
        t.requires_grad_()
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
        loss = linear_cross_entropy(
            strided[0].view(4, 6, 6),
            strided[1],
            labels.to(dtype).view(4, 6),
            linear_bias=strided[2],
        )
        assert torch.equal(loss, expected[0])
        for a, c in zip(torch.autograd.grad(loss, strided), expected[1], strict=True):
            assert torch.equal(a, c)
    many = linear_cross_entropy(
        x.view(2, 1, 3, 2, 2, 6), w, labels.view(2, 1, 3, 2, 2), linear_bias=b
    )
    assert torch.equal(many, expected[0])
    assert torch.equal(torch.autograd.grad(many, x)[0], expected[1][0])
    one = linear_cross_entropy(x[0], w, labels[0], linear_bias=b)
    assert torch.allclose(one, F.cross_entropy(F.linear(x[0], w, b), labels[0]))


@pytest.mark.parametrize("wanted", list(itertools.product((True, False), repeat=3)), ids=str)
def test_gradients_of_what_wants_them(wanted):
    given = data_of((20, 7, 11))
    x, w, b = (t.detach().requires_grad_(need) for t, need in zip(given, wanted, strict=False))
    loss = linear_cross_entropy(x, w, given[3], linear_bias=b)
    assert loss.requires_grad == any(wanted)
    expected = ours(*given)
    assert torch.equal(loss, expected[0])
    if loss.requires_grad:
        loss.backward()
    for t, need, g in zip((x, w, b), wanted, expected[1], strict=True):
        assert torch.equal(t.grad, g) if need else t.grad is None


@pytest.fixture
def asked(monkeypatch):
    """What gradients the op has been asked for, call by call."""
    calls, op = [], _ops.linear_cross_entropy

    def spy(*args):
        calls.append(args[-3:])
        return op(*args)

    monkeypatch.setattr(_ops, "linear_cross_entropy", spy)
    return calls


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_none_are_made(asked, mode):
    x, w, b, labels = data_of((20, 7, 11))
    with mode():
        loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    assert not loss.requires_grad
    constants = (t.detach() for t in (x, w, b))
    x0, w0, b0 = constants
    assert torch.equal(linear_cross_entropy(x0, w0, labels, linear_bias=b0), loss)
    assert asked == [(False, False, False)] * 2
    assert torch.equal(loss, ours(x, w, b, labels)[0])


def test_only_what_is_wanted_is_made(asked):
    x, w, b, labels = data_of((20, 7, 11))
    linear_cross_entropy(x.detach(), w.detach(), labels, linear_bias=b).backward()
    linear_cross_entropy(x, w.detach(), labels).backward()
    assert asked == [(False, False, True), (True, False, False)]


def test_few_rows_without_gradients():
    x, w, b, labels = (t.detach() for t in data_of((3, 7, 11), F64))
    expected = F.cross_entropy(F.linear(x, w, b), labels)
    assert torch.allclose(linear_cross_entropy(x, w, labels, linear_bias=b), expected)
    labels[1] = 11
    with pytest.raises(IndexError):
        linear_cross_entropy(x, w, labels, linear_bias=b)


def test_backward_twice_adds_the_same_again():
    """What is kept is not what the first backward handed out and others add to."""
    x, w, b, labels = data_of((20, 7, 11))
    expected = ours(x, w, b, labels)[1]
    loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    for count in (1, 2, 3):
        loss.backward(retain_graph=True)
        for t, g in zip((x, w, b), expected, strict=True):
            assert torch.allclose(t.grad, g * count)
    with torch.no_grad():
        w.grad.fill_(7)
    assert torch.equal(torch.autograd.grad(loss, w)[0], expected[1])


def test_second_derivatives():
    x, w, b, labels = data_of((6, 3, 4), F64, ignored=(2,))

    def loss(*given):
        return linear_cross_entropy(given[0], given[1], labels, linear_bias=given[2])

    assert torch.autograd.gradcheck(loss, (x, w, b))
    assert torch.autograd.gradgradcheck(loss, (x, w, b))
    frozen = w.detach()
    assert torch.autograd.gradgradcheck(lambda *given: loss(given[0], frozen, given[1]), (x, b))


def test_second_derivatives_where_one_argument_comes_from_another():
    """As with tied weights: the head's are the embedding's."""
    w = torch.randn(6, 4, dtype=F64, requires_grad=True)
    ids, labels = torch.randint(0, 6, (2, 5))

    def tied(w):
        return linear_cross_entropy(F.embedding(ids, w).tanh(), w, labels, linear_bias=w[:, 0])

    def plain(w):
        return F.cross_entropy(F.linear(F.embedding(ids, w).tanh(), w, w[:, 0]), labels)

    first, expected = (torch.autograd.grad(f(w), w, create_graph=True)[0] for f in (tied, plain))
    assert torch.allclose(first, expected)
    assert torch.allclose(first, torch.autograd.grad(tied(w), w)[0])
    second = (torch.autograd.grad(g.square().sum(), w)[0] for g in (first, expected))
    assert torch.allclose(*second)
    same = torch.autograd.grad(linear_cross_entropy(w, w, labels[:1].expand(6)), w)[0]
    again = torch.autograd.grad(
        linear_cross_entropy(w, w, labels[:1].expand(6)), w, create_graph=True
    )[0]
    assert torch.allclose(same, again)


def test_several_gradients_of_the_loss_at_once():
    x, w, b, labels = data_of((6, 3, 4))
    loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    factors = torch.tensor([1.0, -2.0])
    both = torch.autograd.grad(loss, (x, w, b), factors, is_grads_batched=True, retain_graph=True)
    mapped = torch.vmap(lambda v: torch.autograd.grad(loss, (x, w, b), v))(factors)
    for many, more, one in zip(both, mapped, ours(x, w, b, labels)[1], strict=True):
        assert torch.allclose(many, torch.stack([one, -2 * one]))
        assert torch.allclose(more, many)


def test_transforms_and_forward_mode():
    x, w, b, labels = (t.detach() for t in data_of((6, 3, 4), F64))

    def of(x, w, b):
        return linear_cross_entropy(x, w, labels, linear_bias=b)

    def plain(x, w, b):
        return F.cross_entropy(F.linear(x, w, b), labels)

    for transform in (
        lambda f: torch.func.grad(f, argnums=(0, 1, 2))(x, w, b),
        lambda f: torch.func.hessian(f)(x, w, b),
        lambda f: torch.func.vmap(f, in_dims=(0, None, None))(torch.stack([x, 2 * x]), w, b),
        lambda f: torch.func.jvp(f, (x, w, b), (x, w, b)),
    ):
        for a, c in zip(transform(of), transform(plain), strict=True):
            assert torch.allclose(a, c)


def test_compiled():
    given = data_of((12, 5, 8))
    compiled = torch.compile(
        lambda x, w, b, labels: linear_cross_entropy(x, w, labels, linear_bias=b),
        backend="aot_eager",
        fullgraph=True,
    )
    loss = compiled(*given)
    expected = by_definition(*given)
    assert_right(F32, (loss, torch.autograd.grad(loss, given[:3])), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_those_of_torch(dtype):
    x, w, b, labels = data_of((12, 5, 8), dtype)
    loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    assert torch.equal(loss, F.cross_entropy(F.linear(x, w, b), labels))


def test_autocast_is_that_of_torch():
    x, w, b, labels = data_of((12, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(x, w, labels, linear_bias=b)
        assert torch.equal(loss, F.cross_entropy(F.linear(x, w, b), labels))


def test_large_scores():
    x = torch.tensor([[1e4], [-1e4], [0.0]])
    w, labels = torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([0, 0, 2])
    loss = linear_cross_entropy(x, w, labels, reduction="sum")
    assert loss.item() == pytest.approx(2e4 + torch.tensor(3.0).log().item())


def test_impossible_class():
    x, w, b, labels = data_of((9, 3, 4))
    labels[:] = torch.arange(9) % 3
    with torch.no_grad():
        b[3] = -torch.inf
    loss, (_, dw, db) = ours(x, w, b, labels)
    assert torch.allclose(loss, F.cross_entropy(F.linear(x, w[:3], b[:3]), labels))
    assert (dw[3] == 0).all()
    assert db[3] == 0
    labels[0] = 3
    assert ours(x, w, b, labels)[0] == torch.inf


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_shows(value):
    x, w, b, labels = data_of((9, 3, 4))
    with torch.no_grad():
        x[4, 1] = value
    loss, grads = ours(x, w, b, labels)
    assert loss.isnan()
    assert grads[0][4].isnan().all()
    others = [i for i in range(9) if i != 4]
    assert grads[0][others].isfinite().all()


def test_scores_are_never_in_memory():
    rows, features, classes = 600, 16, 3000
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        linear_cross_entropy(
            *data_of((rows, features, classes), bias=False)[:2], torch.zeros(rows).long()
        )
    assert sum(t.numel() for t in kept) < rows * classes // 4


def test_same_bits_in_every_run():
    given = data_of((500, 40, 900))  # work enough for several threads
    first = ours(*given)
    for _ in range(20):
        again = ours(*given)
        assert torch.equal(first[0], again[0])
        assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))


def test_any_number_of_threads():
    given = data_of((500, 40, 900))  # work enough for several threads
    expected, threads = by_definition(*given), torch.get_num_threads()
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            assert_right(F32, ours(*given), expected)
    finally:
        torch.set_num_threads(threads)


def test_op_is_registered_as_it_behaves():
    x, w, b, labels = (t.detach() for t in data_of((5, 3, 4)))
    for bias, *need in itertools.product((b, None), *[(True, False)] * 3):
        library.opcheck(OP, (x, w, bias, labels, -100, True, *need))


class TestErrors:
    given = staticmethod(lambda: data_of((4, 3, 5)))

    def test_reduction(self):
        x, w, _, labels = self.given()
        with pytest.raises(ValueError, match="expected 'mean' or 'sum', got 'none'"):
            linear_cross_entropy(x, w, labels, reduction="none")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64], ids=str)
    def test_dtype_of_target(self, dtype):
        x, w, _, labels = self.given()
        with pytest.raises(ValueError, match=f"expected an integer dtype, got {dtype}"):
            linear_cross_entropy(x, w, labels.to(dtype))

    @pytest.mark.parametrize("shape", [(3,), (4, 1), ()], ids=str)
    def test_shape_of_target(self, shape):
        x, w, _, _ = self.given()
        with pytest.raises(RuntimeError, match=r"expected shape \[4\], one class for each row"):
            linear_cross_entropy(x, w, torch.zeros(shape).long())

    @pytest.mark.parametrize("label", [5, -1, -101])
    def test_class_out_of_range(self, label):
        x, w, b, labels = self.given()
        labels[2] = label
        with pytest.raises(IndexError, match=rf"target: .*\[0, 5\), got {label} at row 2"):
            linear_cross_entropy(x, w, labels, linear_bias=b)

    def test_input_without_rows(self):
        _, w, _, _ = self.given()
        with pytest.raises(RuntimeError, match=r"input: expected rows of features \[..., H\]"):
            linear_cross_entropy(torch.tensor(1.0), w, torch.tensor(0))

    def test_sizes(self):
        x, w, b, labels = self.given()
        with pytest.raises(RuntimeError, match=r"linear_weight of shape \[5, 3\], got \[5, 2\]"):
            linear_cross_entropy(x, w[:, :2], labels)
        with pytest.raises(RuntimeError, match=r"linear_bias of shape \[5\], got \[4\]"):
            linear_cross_entropy(x, w, labels, linear_bias=b[:4])
        with pytest.raises(RuntimeError, match=r"linear_weight \[V, H\], got .* \[15\]"):
            linear_cross_entropy(x, w.flatten(), labels)
        with pytest.raises(RuntimeError, match="at least one feature and one class"):
            linear_cross_entropy(x, w[:0], labels)

    def test_dtypes_that_differ(self):
        x, w, _, labels = self.given()
        with pytest.raises(RuntimeError, match="dtype"):
            linear_cross_entropy(x, w.double(), labels)


def test_one_of_the_functions():
    assert "linear_cross_entropy" in functional.__all__
