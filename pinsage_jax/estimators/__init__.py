"""One object from contexts and features to vectors of items, over the functional core."""

from pinsage_jax.estimators.pinsage import PinSage

__all__ = ["PinSage"]
