"""`fusedrnn tag`: one label for every word."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fusedrnn.commands import label_flags, training_flags
from fusedrnn.commands.flags import JobOrPredict, command, device, whole
from fusedrnn.tasks.label import LabelError, Labeller, TagTask
from fusedrnn.tasks.label.data import check_labels, label_names, split
from fusedrnn.tasks.label.metrics import word_floor
from fusedrnn.tasks.label.readers import WordReader
from fusedrnn.tasks.label.sentences import FORMATS, TAG_COLUMNS, Sentence, read_sentences
from fusedrnn.tasks.label.tasks import class_weights


def add(commands: Any) -> None:
    parser = command(commands, "tag", run_predict, "label the words of sentences")
    parser.usage = "fusedrnn tag (train FILE | eval RUN FILE | RUN SENTENCE...) [flags]"
    jobs = parser.add_subparsers(action=JobOrPredict, dest="job", required=True, metavar="JOB")
    _add_train(jobs)
    one = command(jobs, "eval", run_eval, "score a trained model on a tagged file")
    one.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    one.add_argument("file", metavar="FILE", help="CoNLL-U, or word<TAB>tag, UTF-8")
    _add_file_flags(one)
    one.add_argument("--json", action="store_true", help="as one JSON object")
    one.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    one = command(jobs, "predict", run_predict, "tag words (the word predict may be left out)")
    one.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    one.add_argument("sentences", nargs="*", metavar="SENTENCE", help="words between white space")
    one.add_argument("--file", metavar="FILE", help="CoNLL-U, or a word per line, to be tagged")
    _add_file_flags(one)
    one.add_argument("--device", type=device, default="cpu", help="cpu or cuda")


def _add_file_flags(group: Any) -> None:
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="auto: CoNLL-U for a file called .conllu, else two columns",
    )
    group.add_argument(
        "--tag", choices=list(TAG_COLUMNS), default="upos", help="which tags of CoNLL-U"
    )


def _add_train(jobs: Any) -> None:
    parser = command(jobs, "train", run_train, "train a tagger")
    parser.add_argument("file", metavar="FILE", help="CoNLL-U, or word<TAB>tag, UTF-8")
    group = label_flags.add_data_flags(parser, 0.2, "its end")
    _add_file_flags(group)
    label_flags.add_model_flags(parser, dropout=0.5)
    parser.add_argument(
        "--char-embedding", type=whole(1), default=32, metavar="N", help="size of a character's"
    )
    parser.add_argument(
        "--char-hidden",
        type=whole(0),
        default=48,
        metavar="N",
        help="units of the encoder of a word's characters; 0: words alone",
    )
    training_flags.add(parser, lr=0.005, epochs=15)


def run_train(args: argparse.Namespace) -> int:
    folder = training_flags.run_folder(
        args, f"{Path(args.file).stem}-{args.cell}", label_flags.RESULTS
    )
    sentences = read_sentences(args.file, args.format, args.tag)
    labels = label_names((tag for each in sentences for tag in each.tags), args.file)
    if args.valid:
        train, valid = sentences, read_sentences(args.valid, args.format, args.tag)
        check_labels(args.valid, valid, labels)
    else:
        train, valid = split(sentences, args.valid_fraction, None)
    reader = WordReader.learn(each.words for each in train)
    inputs = {
        "kind": "words",
        "words": len(reader.words),
        "chars": len(reader.chars),
        "embedding": args.embedding,
        "char_embedding": args.char_embedding,
        "char_hidden": args.char_hidden,
    }
    task = TagTask(
        label_flags.make_model(args, inputs, len(labels), None),
        reader,
        labels,
        _pairs(train),
        _pairs(valid),
        batch=args.batch,
        weights=class_weights(args.class_weights, [each.tags for each in train], labels),
        seed=args.seed,
    )
    words = sum(len(each.words) for each in sentences)
    about = (
        f"data: {len(sentences):,} sentences, {words:,} words, {len(valid):,} sentences held out, "
        f"{len(labels)} tags, vocabulary of {len(reader.words):,} words"
    )
    return label_flags.train_and_report(
        task,
        args,
        folder,
        about,
        lambda: {"most frequent tag of each word": word_floor(_words(train), _words(valid))},
    )


def run_eval(args: argparse.Namespace) -> int:
    labeller = Labeller.load(args.checkpoint, TagTask.kind, args.device)
    sentences = read_sentences(args.file, args.format, args.tag)
    check_labels(args.file, sentences, labeller.labels)
    return label_flags.evaluate(labeller, _pairs(sentences), args)


def run_predict(args: argparse.Namespace) -> int:
    labeller = Labeller.load(args.checkpoint, TagTask.kind, args.device)
    sentences = [tuple(sentence.split()) for sentence in args.sentences]
    if args.file:
        read = read_sentences(args.file, args.format, args.tag, tagged=False)
        sentences += [each.words for each in read]
    if not sentences:
        raise LabelError("expected a sentence to tag, or --file, got neither")
    for words, tags in zip(sentences, labeller.tag(sentences), strict=True):
        print("\n".join(f"{word}\t{tag}" for word, tag in zip(words, tags, strict=True)) + "\n")
    return 0


def _pairs(sentences: list[Sentence]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(each.words, each.tags) for each in sentences]


def _words(sentences: list[Sentence]) -> list[tuple[str, str]]:
    """Every word with its tag."""
    return [pair for each in sentences for pair in zip(each.words, each.tags, strict=True)]
