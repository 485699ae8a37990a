"""A finished run -> recommendations, similar users and items, and files for other programs."""

from lightgcn_jax.serving.answers import Ranked
from lightgcn_jax.serving.artifact import export_program
from lightgcn_jax.serving.export import EXPORT_SUFFIXES, export
from lightgcn_jax.serving.folder import save_folder
from lightgcn_jax.serving.index import Index
from lightgcn_jax.serving.reading import reading_recommender
from lightgcn_jax.serving.recommender import Recommender

__all__ = [
    "EXPORT_SUFFIXES",
    "Index",
    "Ranked",
    "Recommender",
    "export",
    "export_program",
    "reading_recommender",
    "save_folder",
]
