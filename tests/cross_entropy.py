"""The loss of a linear head, ours and by its definition, for the tests of both files about it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from oracle import as_double

from fusedrnn.functional import linear_cross_entropy
from fusedrnn.tolerances import check

F32, F64 = torch.float32, torch.float64


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
