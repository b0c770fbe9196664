"""Fused Elman, LSTM and GRU layers for PyTorch.

Drop-in layers for ``torch.nn.RNN``, ``LSTM`` and ``GRU`` with one native call per layer and
sequence, forward and backward through time, and ``lengths=``, ``resets=`` and token ids inside the
kernels. :mod:`fusedrnn.functional` has the same as functions, :mod:`fusedrnn.text` and
:mod:`fusedrnn.lm` the language-model layer on top.
"""

import torch as _torch  # noqa: F401  its libraries must be in the process before ours

from fusedrnn import _fakes as _fakes
from fusedrnn import functional
from fusedrnn._plan import cuda_plan
from fusedrnn.cells import GRUCell, LSTMCell, RNNCell
from fusedrnn.convert import from_torch, to_torch
from fusedrnn.layers import GRU, LSTM, RNN

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "__version__",
    "cuda_plan",
    "from_torch",
    "functional",
    "to_torch",
]
