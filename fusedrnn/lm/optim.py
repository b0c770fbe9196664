"""Optimizers by name: those of `fusedrnn.train.optim`."""

from fusedrnn.train.optim import LEARNING_RATES, OPTIMIZERS, make_optimizer

__all__ = ["LEARNING_RATES", "OPTIMIZERS", "make_optimizer"]
