"""The command line: `lightgcn-jax COMMAND`."""

from lightgcn_jax.cli.program import main

__all__ = ["main"]
