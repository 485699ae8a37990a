"""The command line: `pinsage-jax COMMAND`."""

from pinsage_jax.cli.program import main

__all__ = ["main"]
