"""Draw what a step of training takes as the graph grows: `python docs/draw_scale.py`.

The figures are those of `benchmarks/results/scale.json`: medians of CPU time.
"""

import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


def main() -> None:
    """Write ``scale.png`` beside this file."""
    sizes = json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))["details"]["sizes"]
    edges = [one["edges"] for one in sizes]
    steps = [statistics.median(one["cpu_seconds"]) for one in sizes]
    figure, axes = plt.subplots(figsize=(6, 3.4), dpi=100)
    axes.loglog(edges, steps, "o-", label="a step of training")
    # Through the largest size: what a step would take if every edge took as much.
    axes.loglog(edges, [steps[-1] * one / edges[-1] for one in edges], "--", label="in proportion")
    for at, took in zip(edges, steps, strict=True):
        axes.annotate(f"{1e9 * took / at:.0f} ns an edge", (at, took), fontsize=8,
                      xytext=(6, -10), textcoords="offset points")  # fmt: skip
    axes.set_xlabel("edges")
    axes.set_ylabel("seconds of CPU")
    axes.set_xlim(right=4 * edges[-1])
    axes.set_ylim(bottom=steps[0] / 2)
    axes.set_title("Generated graphs, 32 dimensions, three layers, two CPU cores", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / "scale.png")


if __name__ == "__main__":
    main()
