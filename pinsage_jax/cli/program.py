"""The commands of `pinsage-jax`, which end as those of `lightgcn-jax` do."""

from __future__ import annotations

from collections.abc import Sequence

from lightgcn_jax.cli.front import Program
from lightgcn_jax.cli.program import run

_COMMANDS = {
    "train": ("train", "Train", "Train an encoder on a data set or on your own items."),
    "evaluate": ("runs", "Evaluate", "Rank a run's held-out pairs again, and probe its vectors."),
    "plot": ("plot", "Plot", "Draw a run: learning curve, popularity, groups."),
    "recommend": ("recommend", "Recommend", "Recommend items to users, or by some items."),
    "similar": ("runs", "Similar", "Find the neighbours of items, of one run or several."),
    "embed": ("embed", "Embed", "Add items that did not exist at training time."),
    "serve": ("serve", "Serve", "Serve a run over HTTP, with a page to look at it."),
    "export": ("runs", "Export", "Write vectors and ids to one file or in parts."),
    "verify": ("verify", "Verify", "Tell whether a run's files are as they were written."),
    "plan": ("plan", "Plan", "Say what training would take of an accelerator."),
    "ablation": ("ablation", "Ablation", "Run the paper's table 1 on your own machine."),
}
PINSAGE = Program(
    name="pinsage-jax",
    description="Item embeddings from features and random-walk neighbourhoods (PinSAGE).",
    package="pinsage_jax.cli",
    commands=_COMMANDS,
    out_of_memory="try a smaller --dim, --batch-size, --negatives, --neighbors or --hard-cap",
    spellings={
        "--neighbours": "--neighbors",
        "--liked": "--items",
        "--context-column": "--user-column",
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, and return the exit status.

    Args:
        argv: the arguments; None takes those of the process.
    """
    return run(PINSAGE, argv)
