"""Feature columns, their statistics, and the tables that an encoder reads."""

from pinsage_jax.features.bags import TextEncoder, TextEncoders
from pinsage_jax.features.columns import Column, Kind, Missing
from pinsage_jax.features.files import (
    Alignment,
    Items,
    align,
    items_of_frame,
    read_features,
    read_items,
)
from pinsage_jax.features.inputs import Input, Statistics
from pinsage_jax.features.schema import FeatureSchema, fit_schema
from pinsage_jax.features.table import FeatureTable

__all__ = [
    "Alignment",
    "Column",
    "FeatureSchema",
    "FeatureTable",
    "Input",
    "Items",
    "Kind",
    "Missing",
    "Statistics",
    "TextEncoder",
    "TextEncoders",
    "align",
    "fit_schema",
    "items_of_frame",
    "read_features",
    "read_items",
]
