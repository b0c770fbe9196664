"""`fusedrnn translate train`: its flags, and what it says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fusedrnn.commands import training_flags
from fusedrnn.commands.flags import command, number, refuse, whole
from fusedrnn.errors import UserError
from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.translate.attention import ATTENTIONS
from fusedrnn.tasks.translate.build import build_task
from fusedrnn.tasks.translate.codec import TOKENS
from fusedrnn.tasks.translate.forcing import SCHEDULES
from fusedrnn.tasks.translate.model import FEEDS
from fusedrnn.tasks.translate.pairs import read_pairs
from fusedrnn.tasks.translate.task import Forcing, TranslationTask


def add(words: Any) -> None:
    parser = command(words, "train", _train, "learn to translate sentence pairs")
    parser.add_argument(
        "pairs",
        metavar="PAIRS.tsv",
        help="UTF-8 file: a sentence, a tab and its translation a line",
    )
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))
    training_flags.add(parser, batch=64, epochs=12, lr=0.002)
    _add_forcing_flags(parser.add_argument_group("teacher forcing"))


def _add_data_flags(group: Any) -> None:
    group.add_argument("--limit", type=whole(1), metavar="N", help="the first N pairs alone")
    group.add_argument("--swap", action="store_true", help="from the second column to the first")
    group.add_argument("--tokens", choices=TOKENS, default="word", help="unit of both languages")
    group.add_argument(
        "--min-freq", type=whole(1), default=2, metavar="N", help="rarer words are unknown"
    )
    group.add_argument(
        "--pieces", type=whole(260), default=2000, metavar="N", help="size of bpe's vocabularies"
    )
    group.add_argument(
        "--max-length",
        type=whole(2),
        metavar="N",
        help="cut sentences to N tokens, end mark included",
    )
    group.add_argument("--reverse", action="store_true", help="read the source backwards")
    group.add_argument(
        "--valid-fraction",
        type=number(0.0, 1.0, high_excluded=True),
        default=0.1,
        metavar="X",
        help="share of the pairs, drawn by the seed, that is held out",
    )


def _add_model_flags(group: Any) -> None:
    group.add_argument("--cell", choices=list(CELLS), default="gru", help="recurrent cell")
    group.add_argument("--hidden", type=whole(1), default=256, metavar="N", help="units a layer")
    group.add_argument("--layers", type=whole(1), default=1, metavar="N", help="of either side")
    group.add_argument(
        "--embedding", type=whole(1), default=128, metavar="N", help="size of token embeddings"
    )
    group.add_argument("--bidirectional", action="store_true", help="the encoder reads both ways")
    group.add_argument(
        "--attention", choices=list(ATTENTIONS), default="additive", help="score of the attention"
    )
    group.add_argument(
        "--feed",
        choices=FEEDS,
        default="after",
        help="whether the context enters after the decoder's layers (fast) or before",
    )
    group.add_argument(
        "--dropout", type=number(0.0, 1.0), default=0.3, metavar="P", help="in training"
    )


def _add_forcing_flags(group: Any) -> None:
    group.add_argument(
        "--teacher-forcing",
        type=number(0.0, 1.0),
        default=1.0,
        metavar="P",
        help="probability that a decoder step reads the given word and not its own",
    )
    group.add_argument(
        "--sampling",
        choices=SCHEDULES,
        default="constant",
        help="how it falls from 1 to P over the epochs (scheduled sampling)",
    )


def _train(args: argparse.Namespace) -> int:
    _check(args)
    name = f"{Path(args.pairs).stem}-{args.attention}"
    folder = training_flags.run_folder(args, name)
    task = _build(args)
    _introduce(args, task)
    print(f"run: {folder.path}", flush=True)
    result = training_flags.run_training(task, args, name, folder=folder)
    if result.history:
        _report(args, task, result.history[-1])
    print(f'more: fusedrnn translate {folder.path} "{task.first_source}"')
    return 130 if result.interrupted else 0


def _check(args: argparse.Namespace) -> None:
    """Refuses flags that would do nothing beside the others. Raises FlagError."""
    if args.tokens != "bpe":
        refuse(args, ["pieces"], f"expected it with --tokens bpe alone, got {args.tokens}")
    else:
        refuse(args, ["min_freq"], "expected words or characters, got --tokens bpe")
    if args.attention == "none":
        refuse(args, ["feed"], "expected attention whose context enters, got --attention none")
    if args.teacher_forcing == 1.0 and args.sampling != "constant":
        refuse(args, ["sampling"], "expected --teacher-forcing below 1 to fall to, got 1")


def _build(args: argparse.Namespace) -> TranslationTask:
    try:
        return build_task(
            read_pairs(args.pairs, limit=args.limit, swap=args.swap),
            tokens=args.tokens,
            min_freq=args.min_freq,
            pieces=args.pieces,
            max_length=args.max_length,
            reverse=args.reverse,
            valid_fraction=args.valid_fraction,
            batch=args.batch,
            seed=args.seed,
            forcing=Forcing(args.teacher_forcing, args.sampling, args.epochs),
            device=args.device,
            cell=args.cell,
            hidden=args.hidden,
            layers=args.layers,
            embedding=args.embedding,
            dropout=args.dropout,
            bidirectional=args.bidirectional,
            attention=args.attention,
            feed=args.feed,
        )
    except UserError:
        raise
    except ValueError as error:  # of the model: flags that do not go together
        raise UserError(str(error)) from error


def _introduce(args: argparse.Namespace, task: TranslationTask) -> None:
    translator = task.translator
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    held_out = len(task.held_out.sources)
    print(
        f"pairs: {args.pairs}: {task.pairs:,} to learn from, {held_out:,} other sentences held out; "
        f"vocabularies of {len(translator.source):,} and {len(translator.target):,} tokens"
    )
    where = "" if args.attention == "none" else f" ({args.feed} the decoder)"
    print(
        f"model: {args.layers} x {args.hidden} {args.cell} either side, attention "
        f"{args.attention}{where}, {parameters:,} parameters"
    )


def _report(args: argparse.Namespace, task: TranslationTask, last: dict[str, Any]) -> None:
    """The loss, held-out BLEU by both searches, and some translations."""
    print(f"epoch {last['epoch']}: {last['loss']:.4f} nats per token in training")
    if args.max_length is not None:
        # Summed over a sentence, divided by its steps, averaged over tokens: as textbooks print it.
        scaled = last["loss"] / args.max_length
        print(f"the same, divided by the {args.max_length} steps of a sentence: {scaled:.4f}")
    held_out = task.held_out
    if held_out.sources:
        for width in (1, 5):
            translations = task.translator.translate(held_out.sources, width=width)
            print(f"held out, {name_search(width)}: {show_scores(held_out.scores(translations))}")
    for line in task.samples(5):
        print(f"  {line}")


def name_search(width: int) -> str:
    return "greedy" if width == 1 else f"beam of {width}"


def show_scores(scores: dict[str, float]) -> str:
    bleu = f"BLEU {scores['bleu']:.1f}" if "bleu" in scores else "BLEU needs sacrebleu"
    return f"{bleu}, {scores['exact']:.2%} exact"
