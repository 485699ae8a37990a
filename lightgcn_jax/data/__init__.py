"""Raw events -> validated interactions -> split.

`download` stays in its module: a function of that name here would hide the module itself.
"""

from lightgcn_jax.data.changes import CountChange
from lightgcn_jax.data.datasets import (
    DATA_VARIABLE,
    dataset_names,
    describe,
    fingerprint,
    load_dataset,
)
from lightgcn_jax.data.feedback import Feedback, of_events, positives
from lightgcn_jax.data.formats import FORMATS
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID, Interactions
from lightgcn_jax.data.manifest import ENTRIES, Counts, DatasetEntry, Edition, FileSet, Source
from lightgcn_jax.data.pairs import PARTS, Pairs
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.data.splits import (
    Split,
    Unseen,
    carve_validation,
    given_split,
    leave_k_out_split,
    ratio_split,
    temporal_split,
    undivided,
)
from lightgcn_jax.data.synthetic import World, block_world, default_world, generate_world

__all__ = [
    "DATA_VARIABLE",
    "ENTRIES",
    "FORMATS",
    "PARTS",
    "TEST",
    "TRAIN",
    "VALID",
    "CountChange",
    "Counts",
    "DatasetEntry",
    "Edition",
    "Feedback",
    "FileSet",
    "IdMap",
    "Interactions",
    "Pairs",
    "Source",
    "Split",
    "UnknownIds",
    "Unseen",
    "World",
    "block_world",
    "carve_validation",
    "dataset_names",
    "default_world",
    "describe",
    "fingerprint",
    "generate_world",
    "given_split",
    "leave_k_out_split",
    "load_dataset",
    "of_events",
    "positives",
    "ratio_split",
    "read_interactions",
    "temporal_split",
    "undivided",
]
