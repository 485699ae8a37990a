"""The versions that a run is made with."""

import contextlib
import importlib.metadata

PACKAGE = "lightgcn-pinsage-jax"
"""The distribution, as pip knows it."""


def versions_here() -> dict[str, str]:
    """The versions of the distribution and of what its figures depend on, by name."""
    names = [PACKAGE, "jax", "jaxlib", "flax", "optax", "numpy"]
    versions = dict.fromkeys(names, "not installed")
    for name in versions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
