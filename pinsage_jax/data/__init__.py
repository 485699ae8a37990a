"""Where items come from: files, data sets, and a generated world of pins."""

from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import SOURCES, from_files, load_items
from pinsage_jax.data.world import Pins, PinWorld, generate_pins

__all__ = ["SOURCES", "ItemData", "PinWorld", "Pins", "from_files", "generate_pins", "load_items"]
