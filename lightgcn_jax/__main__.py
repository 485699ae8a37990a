"""The program `lightgcn-jax`, which is also `python -m lightgcn_jax`."""

import sys

from lightgcn_jax.interrupts import take_over


def main() -> int:
    """Run the command line of this process, and return its exit status."""
    take_over()  # before anything that takes time is imported
    from lightgcn_jax.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
