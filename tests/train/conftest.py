"""A small task that several files train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusedrnn.layers import GRU
from fusedrnn.train import Step, Task


class Sums(Task):
    """Running sums of random numbers, from a carried state: a task small enough to check by hand."""

    kind = "running sums"
    unit = "numbers"

    def __init__(self, *, batches=6, rows=4, steps=5, dropout=0.0, valid=True, dtype=torch.float64):
        torch.manual_seed(7)
        self.model = Net(dropout).to(dtype)
        generator = torch.Generator().manual_seed(1)
        numbers = torch.randn(batches + 2, steps, rows, 1, generator=generator, dtype=dtype)
        self.data = list(numbers[:batches])
        self.held_out = numbers[batches:] if valid else None

    def updates(self, epoch):
        return len(self.data)

    def batches(self, epoch, skip=0):
        return iter(self.data[skip:])

    def loss(self, model, batch, carried):
        outputs, state = model(batch, carried)
        loss = nn.functional.mse_loss(outputs, batch.cumsum(0))
        count = batch.numel()
        return Step(loss, loss.detach() * count, count, state.detach())

    def evaluate(self):
        if self.held_out is None:
            return {}
        self.model.eval()
        losses = [self.loss(self.model, batch, None).loss.item() for batch in self.held_out]
        return {"valid_loss": sum(losses) / len(losses)}

    def describe(self):
        return {"hidden": 6}

    def fingerprint(self):
        return {"first": float(self.data[0].sum()), "batches": len(self.data)}

    def samples(self, count):
        return [f"sample {number}" for number in range(count)]


class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.rnn = GRU(1, 6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 1)

    def forward(self, x, state=None):
        outputs, state = self.rnn(x, state)
        return self.head(self.dropout(outputs)), state


@pytest.fixture
def make_task():
    return Sums
