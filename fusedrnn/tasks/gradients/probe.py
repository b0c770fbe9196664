"""From a run on disk to what `state_gradients` takes: a layer, its inputs and a loss at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusedrnn import lm, text
from fusedrnn.init import initialise
from fusedrnn.layers import GRU, LSTM, RNN
from fusedrnn.tasks.forecast.forecaster import Forecaster
from fusedrnn.tasks.forecast.networks import ManyToOne, build
from fusedrnn.tasks.forecast.prepare import ready
from fusedrnn.tasks.forecast.windows import Windows
from fusedrnn.tasks.gradients.errors import GradientError
from fusedrnn.tasks.gradients.states import Loss

Rnn = RNN | LSTM | GRU


@dataclass(frozen=True)
class Probe:
    """A model's recurrent layer with something to differentiate.

    Attributes:
        cell: its name, as in the run's settings.
        rnn: the layer.
        inputs: ``[T, B, I]`` or token ids ``[T, B]``.
        loss: the model's own, of its prediction after the last step alone, summed over the rows.
    """

    cell: str
    rnn: Rnn
    inputs: Tensor
    loss: Loss


@dataclass(frozen=True)
class Pair:
    """The same model and data with fresh parameters and with those of the run."""

    name: str
    before: Probe
    after: Probe


@dataclass(frozen=True)
class Sample:
    """What of the data is differentiated, and how fresh parameters begin.

    Attributes:
        data: a text or a file of series; None for what the run was trained on.
        steps: T; the lags of a forecast, if those are fewer.
        batch: B, rows spread evenly over the data.
        seed: of the fresh parameters; those that the run began with have the run's own seed.
        init: of their recurrent layers, one of `fusedrnn.init.NAMES`.
    """

    data: str | None = None
    steps: int = 100
    batch: int = 16
    seed: int = 0
    init: str = "default"


def load_pair(run: Path, sample: Sample) -> Pair:
    """The probes of a run.

    Args:
        run: folder of a language model or of a forecast by a recurrent network.

    Raises:
        GradientError: a run of another kind, data too short, an initialisation that does not fit.
        CheckpointError: no checkpoint.
    """
    config = _config(run)
    if config.get("target"):
        return _forecast(run, config, sample)
    named = sample.data or config.get("text") or []
    return _language(run, [named] if isinstance(named, str) else named, sample)


def _config(run: Path) -> dict[str, Any]:
    path = run / "config.json"
    if not path.is_file():
        raise GradientError(f"{run}: expected the folder of a run, got no config.json in it")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _fresh(make: Callable[[], Any], sample: Sample) -> Any:
    """A model made under a seed, with torch's generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sample.seed)
        model = make().eval()
        try:
            initialise(model, sample.init, longest=sample.steps)
        except (TypeError, ValueError) as error:
            raise GradientError(str(error)) from error
        return model


def _language(run: Path, texts: Sequence[str], sample: Sample) -> Pair:
    """Of a language model on these texts; without any, on the one that Python ships."""
    steps = sample.steps
    trained = lm.load_checkpoint(run)
    tokenizer, vocab = trained.tokenizer, trained.vocab
    if texts:
        ids = text.encode_texts(texts, tokenizer, vocab).ids
    else:
        ids = vocab.encode(tokenizer.tokenize(text.python_docs_text()))
    if len(ids) < steps + 1:
        raise GradientError(
            f"{', '.join(texts) or 'the text'}: expected at least {steps + 1} tokens for {steps} "
            f"steps, got {len(ids)}"
        )
    starts = torch.linspace(0, len(ids) - steps - 1, sample.batch).long()
    rows = ids[starts + torch.arange(steps + 1).unsqueeze(1)]
    fresh = _fresh(lambda: lm.LanguageModel(**trained.model.config), sample)
    cell = str(trained.model.config["cell"])
    before, after = (_language_probe(cell, model, rows) for model in (fresh, trained.model.eval()))
    return Pair(str(run), before, after)


def _language_probe(cell: str, model: lm.LanguageModel, rows: Tensor) -> Probe:
    inputs = rows[:-1] if model.embedding is None else model.embedding(rows[:-1]).detach()

    def loss(outputs: Tensor) -> Tensor:
        return F.cross_entropy(model.head(outputs[-1]), rows[-1], reduction="sum")

    return Probe(cell, _layer(model.rnn), inputs, loss)


def _layer(rnn: object) -> Rnn:
    if not isinstance(rnn, RNN | LSTM | GRU):
        raise GradientError(f"expected a recurrent layer in the run, got {type(rnn).__name__}")
    return rnn


def _forecast(run: Path, config: dict[str, Any], sample: Sample) -> Pair:
    data = sample.data or config.get("file")
    trained = Forecaster.load(run)
    settings, network = trained.settings, trained.network
    if not isinstance(network, ManyToOne):
        raise GradientError(f"{run}: expected a forecast by --model rnn, got {settings.kind}")
    if data is None or not Path(data).is_file():
        raise GradientError(f"expected --data, the file of series to differentiate on, got {data}")
    read = trained.read(
        data, delimiter=config.get("delimiter", ","), time_format=config.get("time_format")
    )
    series = [trained.scaling.apply(ready(each, settings.calendar, 0)) for each in read]
    spans = [(0, len(each)) for each in series]
    windows = Windows(series, spans, settings.lags, settings.steps)
    if len(windows) == 0:
        raise GradientError(f"{data}: expected more than {settings.lags} steps, got no window")
    chosen = windows.batch(torch.linspace(0, len(windows) - 1, sample.batch).long())
    past = chosen.past[-sample.steps :]

    def probe(model: ManyToOne) -> Probe:
        def loss(outputs: Tensor) -> Tensor:
            out = model.answer(outputs[-1], past, chosen.known)
            return (out - chosen.target.unsqueeze(2)).square().sum()

        return Probe(settings.cell, _layer(model.rnn), past, loss)

    fresh = _fresh(lambda: build(settings.network()), sample)
    return Pair(str(run), probe(fresh), probe(network))
