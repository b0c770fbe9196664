"""`fusedrnn classify`: one label for a text or a series of numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fusedrnn.commands import label_flags, training_flags
from fusedrnn.commands.flags import JobOrPredict, command, device, refuse, whole
from fusedrnn.tasks.label import ClassifyTask, LabelError, Labeller
from fusedrnn.tasks.label.data import (
    check_labels,
    check_texts,
    is_named,
    label_names,
    read_examples,
    split,
)
from fusedrnn.tasks.label.files import Example, read_labelled, read_texts
from fusedrnn.tasks.label.metrics import majority_floor
from fusedrnn.tasks.label.model import POOLS
from fusedrnn.tasks.label.readers import TOKENS, NumberReader, TextReader
from fusedrnn.tasks.label.tasks import class_weights
from fusedrnn.text.tokenize import FILTERS

Reader = TextReader | NumberReader


def add(commands: Any) -> None:
    parser = command(commands, "classify", run_predict, "label texts with a recurrent network")
    parser.usage = "fusedrnn classify (train FILE | eval RUN FILE | RUN TEXT...) [flags]"
    jobs = parser.add_subparsers(action=JobOrPredict, dest="job", required=True, metavar="JOB")
    _add_train(jobs)
    one = command(jobs, "eval", run_eval, "score a trained model on a labelled file")
    one.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    one.add_argument("file", metavar="FILE", help="label<TAB>text, UTF-8")
    one.add_argument("--json", action="store_true", help="as one JSON object")
    one.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    one = command(jobs, "predict", run_predict, "label texts (the word predict may be left out)")
    one.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    one.add_argument("texts", nargs="*", metavar="TEXT", help="text to be labelled")
    one.add_argument("--file", metavar="FILE", help="texts to be labelled, one per line, UTF-8")
    one.add_argument("--device", type=device, default="cpu", help="cpu or cuda")


def _add_train(jobs: Any) -> None:
    parser = command(jobs, "train", run_train, "train a classifier")
    parser.add_argument(
        "file", metavar="FILE", help="label<TAB>text, UTF-8; or digits: scikit-learn's, as numbers"
    )
    group = label_flags.add_data_flags(parser, 0.2, "drawn at random by the seed")
    group.add_argument(
        "--tokens", choices=TOKENS, default="word", help="unit of text; number: series of numbers"
    )
    group.add_argument(
        "--filter",
        choices=FILTERS,
        default="none",
        help="letters: other characters become single spaces, capitals become small",
    )
    group.add_argument(
        "--min-freq", type=whole(1), default=2, metavar="N", help="rarer tokens are unknown"
    )
    label_flags.add_model_flags(parser)
    parser.add_argument(
        "--pool", choices=POOLS, default="last", help="what of the outputs the label is read from"
    )
    training_flags.add(parser, lr=0.003)


def run_train(args: argparse.Namespace) -> int:
    folder = training_flags.run_folder(
        args, f"{Path(args.file).stem}-{args.cell}", label_flags.RESULTS
    )
    examples = read_examples(args.file)
    labels = label_names((example.label for example in examples), args.file)
    if args.valid:
        train, valid = examples, read_labelled(args.valid)
        check_labels(args.valid, valid, labels)
    else:
        train, valid = split(examples, args.valid_fraction, args.seed)
    reader = _learn(args, train)
    check_texts(args.valid or args.file, valid, reader)
    if isinstance(reader, TextReader):
        entries = len(reader.vocab)
        inputs = {"kind": "tokens", "tokens": entries, "embedding": args.embedding}
        seen = f"vocabulary of {entries:,} {reader.tokenizer.unit}"
    else:
        inputs = {"kind": "features", "size": 1}
        seen = f"numbers around {reader.mean:.4g}, spread {reader.spread:.4g}"
    given = [example.label for example in train]
    task = ClassifyTask(
        label_flags.make_model(args, inputs, len(labels), args.pool),
        reader,
        labels,
        _pairs(train),
        _pairs(valid),
        batch=args.batch,
        weights=class_weights(args.class_weights, given, labels),
        seed=args.seed,
    )
    about = (
        f"data: {len(examples):,} examples, {len(valid):,} held out, {len(labels)} labels, {seen}"
    )
    return label_flags.train_and_report(
        task,
        args,
        folder,
        about,
        lambda: {"most frequent label": majority_floor(given, [each.label for each in valid])},
    )


def run_eval(args: argparse.Namespace) -> int:
    labeller = Labeller.load(args.checkpoint, ClassifyTask.kind, args.device)
    examples = read_examples(args.file)
    check_labels(args.file, examples, labeller.labels)
    check_texts(args.file, examples, labeller.reader)
    return label_flags.evaluate(labeller, _pairs(examples), args)


def run_predict(args: argparse.Namespace) -> int:
    labeller = Labeller.load(args.checkpoint, ClassifyTask.kind, args.device)
    texts = list(args.texts)
    if args.file:
        examples = read_texts(args.file)
        check_texts(args.file, examples, labeller.reader)
        texts += [example.text for example in examples]
    if not texts:
        raise LabelError("expected a text to label, or --file, got neither")
    for text, (label, probability) in zip(texts, labeller.classify(texts), strict=True):
        print(f"{label}\t{probability:.3f}\t{text}")
    return 0


def _learn(args: argparse.Namespace, train: list[Example]) -> Reader:
    """The reader, learnt from the training part, every text of which it can read."""
    if args.tokens == "number" or is_named(args.file):
        refuse(
            args, ["embedding", "filter", "min_freq"], "expected words or characters, got numbers"
        )
        check_texts(args.file, train, NumberReader(0.0, 1.0))
        return NumberReader.learn(example.text for example in train)
    texts = [example.text for example in train]
    reader = TextReader.learn(texts, args.tokens, args.filter, args.min_freq)
    check_texts(args.file, train, reader)
    return reader


def _pairs(examples: list[Example]) -> list[tuple[str, str]]:
    return [(example.text, example.label) for example in examples]
