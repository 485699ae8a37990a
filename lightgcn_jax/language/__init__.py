"""A language model's eyes: items written out, embedded by what reads, ranked by cosine."""

from lightgcn_jax.language.minilm import MiniLM
from lightgcn_jax.language.taste import MeanOfItems
from lightgcn_jax.language.template import TEMPLATE, Template, written_out
from lightgcn_jax.language.tfidf import HashedTfIdf
from lightgcn_jax.language.words import TextEncoder

__all__ = [
    "TEMPLATE",
    "HashedTfIdf",
    "MeanOfItems",
    "MiniLM",
    "Template",
    "TextEncoder",
    "written_out",
]
