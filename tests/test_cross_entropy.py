"""The loss of a linear head in one pass, `fusedrnn.functional.linear_cross_entropy`: its values."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from cross_entropy import F32, F64, assert_right, by_definition, data_of, ours
from torch import library

from fusedrnn import functional
from fusedrnn.functional import linear_cross_entropy

OP = torch.ops.fusedrnn.linear_cross_entropy.default
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


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients(shape, dtype):
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


def test_few_rows_without_gradients():
    x, w, b, labels = (t.detach() for t in data_of((3, 7, 11), F64))
    expected = F.cross_entropy(F.linear(x, w, b), labels)
    assert torch.allclose(linear_cross_entropy(x, w, labels, linear_bias=b), expected)
    labels[1] = 11
    with pytest.raises(IndexError):
        linear_cross_entropy(x, w, labels, linear_bias=b)


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
