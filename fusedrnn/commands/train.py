"""`fusedrnn train`: a language model from a text."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from torch import nn

from fusedrnn import lm, text
from fusedrnn.commands import text_flags, training_flags
from fusedrnn.commands.flags import command, number, whole
from fusedrnn.errors import UserError
from fusedrnn.lm.floors import describe
from fusedrnn.lm.model import CELLS
from fusedrnn.lm.presets import PRESETS
from fusedrnn.lm.task import LanguageModelTask
from fusedrnn.lm.truncation import TRUNCATIONS
from fusedrnn.text.batches import ORDERS
from fusedrnn.text.cache import read_json
from fusedrnn.train import Result, RunFolder, distributed


class _FlagError(UserError, ValueError):
    """Flags that cannot be together."""


def add(commands: Any) -> None:
    parser = command(commands, "train", run, "train a language model on a text")
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        action=_Preset,
        help="flags that are known to work well; other flags win over it",
    )
    text_flags.add(parser)
    _add_model_flags(parser.add_argument_group("model"))
    _add_unrolling_flags(parser.add_argument_group("unrolling"))
    training_flags.add(parser)
    _mark_defaults(parser)


class _Unasked(str):
    """A default that a preset may replace. It is text, which argparse converts after all flags are
    read: until then a value that was asked for is told from it, even where the two are equal."""


def _mark_defaults(parser: argparse.ArgumentParser) -> None:
    for name in {name for preset in PRESETS.values() for name in preset}:
        default = parser.get_default(name)
        if default is not None and default is not False:  # which no flag can ask for
            parser.set_defaults(**{name: _Unasked(default)})


class _Preset(argparse.Action):
    """Sets the flags of a preset that were not asked for."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: Any = None) -> None:
        namespace.preset = value
        for name, wanted in PRESETS[value].items():
            now = getattr(namespace, name)
            if now is None or now is False or isinstance(now, _Unasked):
                setattr(namespace, name, wanted)


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
    group.add_argument(
        "--variational", action="store_true", help="dropout draws one mask per sequence"
    )
    group.add_argument(
        "--tied", action="store_true", help="the head's weight is the embedding's, as large"
    )
    group.add_argument(
        "--init-uniform",
        type=number(0.0, 1e6),
        metavar="X",
        help="draw all initial parameters from -X to X (default: as torch.nn)",
    )


def _add_unrolling_flags(group: Any) -> None:
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
        "--same-start",
        action="store_true",
        help="every epoch begins with the first token, not at a random offset",
    )
    group.add_argument(
        "--truncation",
        choices=TRUNCATIONS,
        default="fixed",
        help="where the gradient is cut: after every --steps tokens, at random ones of these places "
        "(unbiased), or nowhere",
    )
    group.add_argument(
        "--cut",
        type=number(0.0, 1.0),
        default=0.5,
        metavar="P",
        help="probability of a cut with --truncation random",
    )
    group.add_argument("--separator", metavar="TOKEN", help=text_flags.SEPARATOR)
    group.add_argument(
        "--loss",
        choices=("mean", "sum"),
        default="mean",
        help="what is differentiated: the mean over the tokens, or the sum over the steps",
    )


def run(args: argparse.Namespace) -> int:
    with distributed.from_environment(args.device) as args.device:
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    folder = training_flags.run_folder(args, f"{text_flags.name(args)}-{args.cell}")
    corpus = text_flags.build(args)
    _check_drawable(corpus.vocab)
    if args.resume:
        _check_vocabulary(args, folder, corpus)
    task = _make_task(args, corpus)
    if distributed.rank() == 0:
        parameters = sum(parameter.numel() for parameter in task.model.parameters())
        print(text_flags.describe(args, corpus))
        print(f"model: {_describe(args)}, {parameters:,} parameters")
        print(f"run: {folder.path}", flush=True)
        if len(corpus.valid) == 1:
            print("no held-out loss: expected at least 2 tokens held out, got 1", file=sys.stderr)
    floors = _floors(corpus) if distributed.rank() == 0 else {}
    title = f"{_describe(args)}, {args.optimizer}, {args.order}"
    result = training_flags.run_training(
        task,
        args,
        title,
        folder=folder,
        floors={name: lm.perplexity(loss) for name, loss in floors.items()},
        held_out=vars(corpus.judged.kept),
    )
    if distributed.rank() == 0:
        _report(args, corpus, task, folder, result, floors)
    return 130 if result.interrupted else 0


def _check_drawable(vocab: text.Vocab) -> None:
    """TextError for a vocabulary of which no text could be drawn after the training."""
    if not any(vocab.counts[1:]):
        raise text.TextError(
            f"vocabulary: expected a token of the text besides '<unk>', got {list(vocab)[:5]}"
        )


def _floors(corpus: text.Corpus) -> dict[str, float]:
    """In nats per token; none of a text that is too short to count, which a note says."""
    try:
        return lm.floors(corpus.train, corpus.valid, len(corpus.vocab))
    except text.TextError as error:
        print(f"no floors: {error}", file=sys.stderr)
        return {}


def _check_vocabulary(args: argparse.Namespace, folder: RunFolder, corpus: text.Corpus) -> None:
    """MismatchError, which names the flags and the entries, where the run to go on with has another
    vocabulary."""
    try:
        saved = lm.load_checkpoint(folder.checkpoint)
    except lm.CheckpointError:
        return  # none yet, or a damaged one: what goes on with the run says so
    try:
        text.check_same(saved.tokenizer, saved.vocab, corpus.tokenizer, corpus.vocab)
    except text.MismatchError as error:
        flags = text_flags.differing(args, read_json(folder.config, dict[str, Any]) or {})
        expected = "".join(f"{flag}; " for flag in flags)
        message = f"{folder.path}: {expected}expected the run's own text, got {error}"
        raise text.MismatchError(message, error.indices) from error


def _make_task(args: argparse.Namespace, corpus: text.Corpus) -> LanguageModelTask:
    torch.manual_seed(args.seed)
    try:
        model = lm.LanguageModel(
            len(corpus.vocab),
            args.cell,
            args.hidden,
            args.layers,
            args.embedding,
            args.dropout,
            args.tied,
            args.variational,
        )
        if args.init_uniform is not None:
            for parameter in model.parameters():
                nn.init.uniform_(parameter, -args.init_uniform, args.init_uniform)
        return LanguageModelTask(
            model.to(args.device),
            corpus.train,
            batch=args.batch,
            steps=args.steps,
            order=args.order,
            seed=args.seed,
            same_start=args.same_start,
            valid_ids=corpus.valid,
            truncation=args.truncation,
            cut=args.cut,
            summed=args.loss == "sum",
            separator=text_flags.separator(args, corpus.vocab),
            documents=corpus.documents,
            valid_documents=corpus.valid_documents,
            tokenizer=corpus.tokenizer,
            vocab=corpus.vocab,
        )
    except UserError:
        raise
    except ValueError as error:
        raise _FlagError(str(error)) from error


def _describe(args: argparse.Namespace) -> str:
    return f"{args.layers} x {args.hidden} {args.cell}"


def _report(
    args: argparse.Namespace,
    corpus: text.Corpus,
    task: LanguageModelTask,
    folder: RunFolder,
    result: Result,
    floors: dict[str, float],
) -> None:
    """The last epoch, the floors beside the best one, two samples, and where everything is."""
    if result.history:
        _report_epochs(result.history)
    if result.history and floors:
        best = [each["valid_loss"] for each in result.history if "valid_loss" in each]
        rows = floors | ({"this model": min(best)} if best else {})
        print(f"floors: what counting alone reaches\n{describe(rows, corpus.judged)}")
    for temperature in (0.5, 1.0):
        sample = lm.sample_text(
            task.model, corpus.tokenizer, corpus.vocab, temperature=temperature, seed=args.seed
        )
        print(f"\n--- sample at temperature {temperature} ---\n{sample}")
    print("\nwritten:", *(file for file in folder.files if file.exists()))
    print(f"more: fusedrnn sample {folder.path} --temperature 0.7 --seed 1")


def _report_epochs(epochs: list[dict[str, Any]]) -> None:
    last = epochs[-1]
    tokens, seconds = (sum(each[key] for each in epochs) for key in ("tokens", "seconds"))
    held_out = last.get("valid_perplexity")
    print(
        f"epoch {last['epoch']}: perplexity {last['perplexity']:.3f} in training, "
        + (f"{held_out:.3f} held out, " if held_out is not None else "")
        + f"{tokens / seconds:,.0f} tokens/s"
    )
