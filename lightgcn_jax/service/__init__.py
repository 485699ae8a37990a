"""A run behind HTTP: requests that arrive together are one call, and a page to look at it."""

from lightgcn_jax.service.limits import Limits

__all__ = ["Limits"]
