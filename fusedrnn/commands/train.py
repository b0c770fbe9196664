"""`fusedrnn train`: a language model from a text."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fusedrnn import lm, text
from fusedrnn.commands.flags import add_device_and_seed, command, number, whole
from fusedrnn.lm.metrics import MetricsFile
from fusedrnn.lm.model import CELLS
from fusedrnn.lm.optim import LEARNING_RATES, OPTIMIZERS
from fusedrnn.lm.run import Progress, RunFolder
from fusedrnn.text.batches import ORDERS, Order
from fusedrnn.text.tokenize import FILTERS, TOKENIZERS

_SAVE_EVERY_S = 30.0


def add(commands: Any) -> None:
    parser = command(commands, "train", run, "train a language model on a text")
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help="UTF-8 file; without it, the English help topics that every Python carries "
        "(about 465,000 characters)",
    )
    _add_text_flags(parser.add_argument_group("text"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_training_flags(parser.add_argument_group("training"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", metavar="RUN", help="folder of the run (default: a new one in runs/)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace a run that is in --out")


def _add_text_flags(group: Any) -> None:
    group.add_argument("--tokens", choices=list(TOKENIZERS), default="char", help="unit of text")
    group.add_argument(
        "--filter",
        choices=FILTERS,
        default="none",
        help="letters: other characters become single spaces, capitals become small",
    )
    group.add_argument("--max-tokens", type=whole(1), metavar="N", help="use the first N tokens")
    group.add_argument(
        "--min-freq", type=whole(1), default=1, metavar="N", help="rarer tokens are unknown"
    )
    group.add_argument(
        "--valid-fraction",
        type=number(0.0, 1.0, high_excluded=True),
        default=0.05,
        metavar="X",
        help="share of the text, its end, that is held out",
    )


def _add_model_flags(group: Any) -> None:
    group.add_argument("--cell", choices=list(CELLS), default="lstm", help="recurrent cell")
    group.add_argument("--hidden", type=whole(1), default=256, metavar="N", help="units a layer")
    group.add_argument("--layers", type=whole(1), default=1, metavar="N", help="recurrent layers")
    group.add_argument(
        "--embedding",
        type=whole(0),
        default=0,
        metavar="N",
        help="size of the token embedding; 0: one-hot",
    )
    group.add_argument(
        "--dropout",
        type=number(0.0, 1.0),
        default=0.0,
        metavar="P",
        help="probability of dropping an output of the embedding or of a layer",
    )


def _add_training_flags(group: Any) -> None:
    group.add_argument("--batch", type=whole(1), default=32, metavar="N", help="rows of a batch")
    group.add_argument(
        "--steps", type=whole(1), default=64, metavar="N", help="tokens of a row, and of gradient"
    )
    group.add_argument(
        "--order",
        choices=list(ORDERS),
        default="sequential",
        help="sequential carries the state from batch to batch, random begins each anew",
    )
    group.add_argument(
        "--optimizer",
        choices=sorted(OPTIMIZERS),
        default="adam",
        metavar="NAME",
        help=f"one of {', '.join(sorted(OPTIMIZERS))}",
    )
    rates = ", ".join(f"{name} {lr}" for name, lr in LEARNING_RATES.items())
    group.add_argument(
        "--lr",
        type=number(0.0, math.inf, high_excluded=True),
        metavar="X",
        help=f"learning rate (default: {rates}, else torch's)",
    )
    group.add_argument(
        "--clip",
        type=number(0.0, math.inf, high_excluded=True),
        default=1.0,
        metavar="X",
        help="largest global norm of the gradients; 0: no clipping",
    )
    group.add_argument(
        "--epochs", type=whole(1), default=10, metavar="N", help="passes over the text"
    )
    add_device_and_seed(group, "initial parameters, order and dropout")


def run(args: argparse.Namespace) -> int:
    stem = Path(args.text).stem if args.text else "python-docs"
    folder = RunFolder(args.out, f"{stem}-{args.cell}", overwrite=args.overwrite)
    tokenizer = text.make_tokenizer(args.tokens, args.filter)
    corpus = text.build_corpus(
        text.read_text(args.text) if args.text else text.python_docs_text(),
        tokenizer,
        max_tokens=args.max_tokens,
        valid_fraction=args.valid_fraction,
        min_freq=args.min_freq,
    )
    order = text.make_order(args.order, len(corpus.train), args.batch, args.steps, args.seed)
    torch.manual_seed(args.seed)
    model = lm.LanguageModel(
        len(corpus.vocab), args.cell, args.hidden, args.layers, args.embedding, args.dropout
    ).to(args.device)
    optimizer = lm.make_optimizer(args.optimizer, model.parameters(), args.lr)

    settings = {key: value for key, value in vars(args).items() if key not in ("run", "command")}
    settings |= {"lr": optimizer.param_groups[0]["lr"], "device": str(args.device)}

    training = _Training(args, corpus, order, model, optimizer, folder, settings)
    training.introduce()
    folder.create(settings)
    training.run()
    training.report()
    return 130 if training.interrupted else 0


@dataclass
class _Training:
    """The `train` command once everything is in hand: what it prints, trains and writes."""

    args: argparse.Namespace
    corpus: text.Corpus
    order: Order
    model: lm.LanguageModel
    optimizer: torch.optim.Optimizer
    folder: RunFolder
    settings: dict[str, Any]
    epochs: list[dict[str, Any]] = field(default_factory=list)
    saved_epochs: int | None = None
    interrupted: bool = False

    def introduce(self) -> None:
        args, corpus = self.args, self.corpus
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        print(
            f"text: {args.text or 'pydoc_data.topics, which comes with Python'}: "
            f"{len(corpus.train) + len(corpus.valid):,} {corpus.tokenizer.unit}, "
            f"{len(corpus.valid):,} of them held out, "
            f"vocabulary of {len(corpus.vocab):,} entries"
        )
        print(f"model: {self._describe()}, {parameters:,} parameters")
        print(f"run: {self.folder.path}", flush=True)

    def run(self) -> None:
        """Trains, writing metrics after each epoch and checkpoints now and then."""
        args = self.args
        saved = time.monotonic()
        with (
            MetricsFile(self.folder.metrics) as metrics,
            Progress(self._tokens_of, args.epochs) as progress,
        ):
            try:
                for epoch in lm.train(
                    self.model,
                    self.optimizer,
                    self.corpus.train,
                    epochs=args.epochs,
                    batch=args.batch,
                    steps=args.steps,
                    order=args.order,
                    clip=args.clip,
                    seed=args.seed,
                    valid_ids=self.corpus.valid,
                    on_step=progress.step,
                ):
                    self.epochs.append(epoch.to_dict())
                    metrics.write(self.epochs[-1])
                    progress.start_epoch(epoch.epoch)
                    if time.monotonic() - saved > _SAVE_EVERY_S:
                        self._save()
                        saved = time.monotonic()
            except KeyboardInterrupt:
                self.interrupted = True
            except lm.DivergedError as error:
                kept = "no checkpoint was written yet"
                if self.saved_epochs:
                    kept = (
                        f"{self.folder.checkpoint} holds the model after epoch {self.saved_epochs}"
                    )
                raise lm.DivergedError(f"{error}; {kept}") from error
            self._save()

    def report(self) -> None:
        """The last epoch, the floors, the plot, two samples, and where everything is."""
        corpus = self.corpus
        if self.interrupted:
            print(f"interrupted in epoch {len(self.epochs) + 1}; the model as it was then is saved")
        if self.epochs:
            self._report_epochs()
        for temperature in (0.5, 1.0):
            sample = lm.sample_text(
                self.model,
                corpus.tokenizer,
                corpus.vocab,
                temperature=temperature,
                seed=self.args.seed,
            )
            print(f"\n--- sample at temperature {temperature} ---\n{sample}")
        print("\nwritten:", *(file for file in self.folder.files if file.exists()))
        print(f"more: fusedrnn sample {self.folder.path} --temperature 0.7 --seed 1")

    def _report_epochs(self) -> None:
        last = self.epochs[-1]
        tokens, seconds = (sum(each[key] for each in self.epochs) for key in ("tokens", "seconds"))
        held_out = last.get("valid_perplexity")
        print(
            f"epoch {last['epoch']}: perplexity {last['perplexity']:.3f} in training, "
            + (f"{held_out:.3f} held out, " if held_out is not None else "")
            + f"{tokens / seconds:,.0f} tokens/s"
        )
        floors = {"unigram": lm.ngram_floor(self.corpus.train, 1)}
        if self.corpus.tokenizer.name == "char":
            floors["bigram"] = lm.ngram_floor(self.corpus.train, 2)
        print("floors:", ", ".join(f"{name} {value:.2f}" for name, value in floors.items()))
        title = f"{self._describe()}, {self.args.optimizer}, {self.args.order}"
        try:
            lm.plot_perplexity(self.folder.plot, self.epochs, floors, title)
        except lm.PlotUnavailableError as error:
            print(error)

    def _describe(self) -> str:
        return f"{self.args.layers} x {self.args.hidden} {self.args.cell}"

    def _tokens_of(self, epoch: int) -> int:
        return self.order.batches(epoch) * self.order.batch * self.order.steps

    def _save(self) -> None:
        info = {"settings": self.settings, "epochs": len(self.epochs)}
        checkpoint = lm.Checkpoint(self.model, self.corpus.tokenizer, self.corpus.vocab, info)
        lm.save_checkpoint(self.folder.checkpoint, checkpoint)
        self.saved_epochs = len(self.epochs)
