"""Text for language models: vocabulary, tokenizers, corpora and the iterators over them."""

from fusedrnn.text.batches import (
    RandomSampling,
    SequentialPartition,
    Windows,
    make_loader,
    make_order,
)
from fusedrnn.text.corpus import Corpus, build_corpus, ngram_counts, python_docs_text, read_text
from fusedrnn.text.errors import TextError, UnknownTokenError
from fusedrnn.text.tokenize import (
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    letters_only,
    make_tokenizer,
)
from fusedrnn.text.vocab import Vocab

__all__ = [
    "CharTokenizer",
    "Corpus",
    "RandomSampling",
    "SequentialPartition",
    "TextError",
    "Tokenizer",
    "UnknownTokenError",
    "Vocab",
    "Windows",
    "WordTokenizer",
    "build_corpus",
    "letters_only",
    "make_loader",
    "make_order",
    "make_tokenizer",
    "ngram_counts",
    "python_docs_text",
    "read_text",
]
