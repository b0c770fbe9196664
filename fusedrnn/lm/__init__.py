"""Language models: the model, its training, checkpoints and sampling."""

from fusedrnn.lm.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from fusedrnn.lm.extend import extend_vocab
from fusedrnn.lm.floors import floors, per_text
from fusedrnn.lm.metrics import MetricsFile, ngram_floor, perplexity, perplexity_of, read_metrics
from fusedrnn.lm.model import LanguageModel, detach
from fusedrnn.lm.ngram import KneserNey, Laplace, WittenBell
from fusedrnn.lm.optim import make_optimizer
from fusedrnn.lm.plot import PlotUnavailableError, plot_perplexity
from fusedrnn.lm.sample import (
    Hypothesis,
    Sampling,
    TextScore,
    beam_search,
    generate,
    sample_text,
    sample_texts,
    score,
    score_text,
    stream,
    stream_text,
)
from fusedrnn.lm.task import LanguageModelTask
from fusedrnn.lm.train import DivergedError, Epoch, evaluate, train, train_epoch

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DivergedError",
    "Epoch",
    "Hypothesis",
    "KneserNey",
    "LanguageModel",
    "LanguageModelTask",
    "Laplace",
    "MetricsFile",
    "PlotUnavailableError",
    "Sampling",
    "TextScore",
    "WittenBell",
    "beam_search",
    "detach",
    "evaluate",
    "extend_vocab",
    "floors",
    "generate",
    "load_checkpoint",
    "make_optimizer",
    "ngram_floor",
    "per_text",
    "perplexity",
    "perplexity_of",
    "plot_perplexity",
    "read_metrics",
    "sample_text",
    "sample_texts",
    "save_checkpoint",
    "score",
    "score_text",
    "stream",
    "stream_text",
    "train",
    "train_epoch",
]
