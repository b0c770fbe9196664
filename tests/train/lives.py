"""A run of training that is killed many times: the program that `test_survival` starts.

    python lives.py FOLDER KILLS SEED

Trains once undisturbed into FOLDER/calm and once into FOLDER/killed, where the process is killed by
SIGKILL at KILLS random moments and the run resumed each time. Every life is a fork of this process,
which has imported everything and computes nothing, so that a life costs no start of Python.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from fusedrnn.lm import LanguageModel, LanguageModelTask
from fusedrnn.text import CharTokenizer, Vocab
from fusedrnn.train import RunFolder, Settings, train

TEXT = "the quick brown fox jumps over the lazy dog while five wizards box\n" * 12


def live(folder: Path) -> None:
    """Begins the run, or goes on with it, and ends the process."""
    torch.set_num_threads(1)
    begun = RunFolder(folder, resume=(folder / "config.json").exists())
    if not begun.config.exists():
        begun.create({})
    torch.manual_seed(3)
    vocab = Vocab(TEXT)
    model = LanguageModel(
        len(vocab), "lstm", hidden=10, layers=2, embedding=6, dropout=0.3, variational=True
    )
    ids = vocab.encode(TEXT)
    task = LanguageModelTask(
        model,
        ids[:-100],
        batch=4,
        steps=5,
        seed=3,
        valid_ids=ids[-100:],
        truncation="random",
        cut=0.6,
        tokenizer=CharTokenizer(),
        vocab=vocab,
    )
    settings = Settings(
        epochs=12,
        schedule="cosine",
        warmup=20,
        accumulate=2,
        save_every_s=0.02,
        keep=3,
        log_every=3,
        samples=1,
        seed=3,
    )
    train(task, settings, begun, resume=True)
    os._exit(0)


def born(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            live(folder)
        finally:
            os._exit(1)
    return child


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    started = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(born(folder / "calm"), 0)[1])
    assert code == 0, f"the undisturbed run ended with {code}"
    span = time.monotonic() - started
    draw = random.Random(seed)
    killed = lives = 0
    while True:
        child = born(folder / "killed")
        lives += 1
        if killed < kills:
            time.sleep(draw.uniform(0, 3 * span / kills))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killed += code == -signal.SIGKILL
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"life {lives} ended with {code}"
    print(f"{killed} kills, {lives} lives, {span:.1f} s undisturbed")


if __name__ == "__main__":
    main()
