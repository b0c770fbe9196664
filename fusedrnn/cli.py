"""The `fusedrnn` command: train, sample, eval, info.

Exit codes: 0 done; 1 the work could not be done (a text, checkpoint or folder that does not serve);
2 a flag that cannot be; 130 interrupted. Errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import fusedrnn
from fusedrnn import _C, lm, text
from fusedrnn._arguments import build_parser
from fusedrnn.lm.metrics import MetricsFile
from fusedrnn.lm.run import Progress, RunExistsError, RunFolder
from fusedrnn.text.batches import Order

_SAVE_EVERY_S = 30.0


class _SettingError(ValueError):
    """An environment variable that asks for what this machine does not have."""


_EXPECTED_ERRORS = (
    text.TextError,
    lm.CheckpointError,
    lm.DivergedError,
    RunExistsError,
    _SettingError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (None: those of the process); returns the exit code."""
    args = build_parser(train, sample, evaluate, info).parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character of a sample gets its number instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_instruction_set()
        return run(args)
    except _EXPECTED_ERRORS as error:
        message = str(error)
    except BrokenPipeError:  # whoever read the output has gone, e.g. `head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  nothing is left to write or to close
        return 1
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    print(f"fusedrnn {args.command}: error: {message}", file=sys.stderr)
    return 1


def _check_instruction_set() -> None:
    """Makes the choice of kernels now, so that a wrong FUSEDRNN_ISA is found before any work."""
    try:
        _C.isa()
    except RuntimeError as error:
        raise _SettingError(str(error)) from error


def train(args: argparse.Namespace) -> int:
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


def sample(args: argparse.Namespace) -> int:
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    print(
        lm.sample_text(
            checkpoint.model,
            checkpoint.tokenizer,
            checkpoint.vocab,
            args.prompt,
            args.length,
            temperature=args.temperature,
            seed=args.seed,
        )
    )
    return 0


def evaluate(args: argparse.Namespace) -> int:
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    tokens = checkpoint.tokenizer.tokenize(text.read_text(args.text))
    ids = checkpoint.vocab.encode(tokens)
    begin = time.perf_counter()
    loss = lm.evaluate(checkpoint.model, ids, batch=args.batch)
    seconds = time.perf_counter() - begin
    if not math.isfinite(lm.perplexity(loss)):
        raise lm.DivergedError(f"{args.text}: expected a loss with a finite perplexity, got {loss}")
    unknown = int((ids == 0).sum())
    result = {
        "perplexity": lm.perplexity(loss),
        "loss": loss,
        "bits_per_token": loss / math.log(2),
        "tokens": len(ids),
        "unknown_tokens": unknown,
        "tokens_per_s": len(ids) / seconds,
    }
    if args.json:
        print(json.dumps(result))
        return 0
    print(
        f"perplexity {result['perplexity']:.4f}, {loss:.4f} nats or "
        f"{result['bits_per_token']:.4f} bits per token, {len(ids):,} "
        f"{checkpoint.tokenizer.unit}, {result['tokens_per_s']:,.0f} tokens/s"
    )
    if unknown:
        print(f"{unknown:,} of them are unknown to the model and were counted as <unk>")
    return 0


def info(args: argparse.Namespace) -> int:
    has_cuda = torch.cuda.is_available()
    facts = {
        "version": fusedrnn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isa": _C.isa(),
        "available_isas": list(_C.available_isas()),
        "threads": torch.get_num_threads(),
        "cuda_build": _C.cuda_build,
        "cuda_device": torch.cuda.get_device_name() if has_cuda else None,
    }
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name:15} {'none' if shown is None else shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
