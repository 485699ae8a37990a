"""`python -m pinsage_jax` is the command `pinsage-jax`."""

import sys

from pinsage_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
