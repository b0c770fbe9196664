"""Translation: from sentence pairs to a model that translates, and how well it does."""

from fusedrnn.tasks.translate.addition import addition_pairs
from fusedrnn.tasks.translate.bleu import bleu_k, corpus_bleu
from fusedrnn.tasks.translate.build import build_task
from fusedrnn.tasks.translate.model import EncoderDecoder
from fusedrnn.tasks.translate.pairs import prepare, read_pairs
from fusedrnn.tasks.translate.predict import Translator
from fusedrnn.tasks.translate.search import Hypothesis, beam_search, greedy
from fusedrnn.tasks.translate.task import Forcing, TranslationTask

__all__ = [
    "EncoderDecoder",
    "Forcing",
    "Hypothesis",
    "TranslationTask",
    "Translator",
    "addition_pairs",
    "beam_search",
    "bleu_k",
    "build_task",
    "corpus_bleu",
    "greedy",
    "prepare",
    "read_pairs",
]
