"""`python -m lightgcn_jax` is the command `lightgcn-jax`."""

import sys

from lightgcn_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
