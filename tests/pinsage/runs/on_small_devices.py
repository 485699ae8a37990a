"""The program of PinSAGE on devices that hold no graph; ``python -m`` runs it."""

import sys

from pinsage_jax.cli.program import main
from pinsage_jax.training import division

division.device_memory = lambda: 2**14

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
