"""The encoder: algorithm 1 for one layer, algorithm 2 for a mini-batch, all items at once."""

from pinsage_jax.encoder.all_items import ItemVectors, embed_all
from pinsage_jax.encoder.blocks import embed_blocks
from pinsage_jax.encoder.pinsage import PinSage, init_params, make_model

__all__ = ["ItemVectors", "PinSage", "embed_all", "embed_blocks", "init_params", "make_model"]
