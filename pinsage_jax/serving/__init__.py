"""Items that came after training, and how answers are shown."""

from pinsage_jax.serving.contact_sheet import ContactSheet, NeighbourRows, neighbours_table
from pinsage_jax.serving.live_items import Added, LiveItems, Neighbours

__all__ = ["Added", "ContactSheet", "LiveItems", "NeighbourRows", "Neighbours", "neighbours_table"]
