"""The command verify, the same for the runs of both programs."""

from lightgcn_jax.cli.verify import Verify

__all__ = ["Verify"]
