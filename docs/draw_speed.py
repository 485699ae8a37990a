"""Draw how many times as fast as PyTorch the work of Gowalla is: `python docs/draw_speed.py`.

Every bar is a ratio of two medians of `benchmarks/results`; the times themselves stand beside it.
"""

import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
AS_WRITTEN, STRONGEST = "as the original code writes it", "its strongest form"
K3 = "gowalla, D = 64, k3: "
# What is done; the file of its samples; ours; PyTorch's, by what they are called there.
WORK = (
    (
        "LightGCN, training step",
        "train_step",
        "our step",
        {AS_WRITTEN: "PyTorch's step", STRONGEST: "PyTorch's step, CSR with Ã symmetric"},
    ),
    (
        "NGCF, training step",
        "train_step",
        "our NGCF step",
        {AS_WRITTEN: "PyTorch's NGCF step", STRONGEST: "the same, CSR with Ã symmetric"},
    ),
    (
        "three layers, there and back",
        "diffusion",
        K3 + "native",
        {AS_WRITTEN: K3 + "torch-coo", STRONGEST: K3 + "torch-csr-horner"},
    ),
    (
        "full-ranking evaluation",
        "ranking",
        "our evaluation",
        {
            AS_WRITTEN: "PyTorch's, batch 2048",
            STRONGEST: "PyTorch's, batch 2048, already diffused",
        },
    ),
    (
        "PinSAGE, training step",
        "pinsage",
        "our step",
        {STRONGEST: "PyTorch's step"},
    ),
)
COLOURS = {AS_WRITTEN: "#9ecae1", STRONGEST: "#3182bd"}


def seconds(value: float) -> str:
    """Write a time with its unit.

    Args:
        value: seconds.
    """
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:,.0f} ms"


def main() -> None:
    """Write ``speed.png`` beside this file."""
    figure, axes = plt.subplots(figsize=(8, 3.6), dpi=120)
    for place, (_, file, ours, peers) in enumerate(WORK):
        samples = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["samples"]
        own = statistics.median(samples[ours])
        for shift, (form, colour) in zip((-0.2, 0.2), COLOURS.items(), strict=True):
            if form in peers:
                other = statistics.median(samples[peers[form]])
                at = place + (shift if len(peers) > 1 else 0)
                axes.barh(at, other / own, 0.38, color=colour)
                told = f" {other / own:.1f} ×   {seconds(own)} beside {seconds(other)}"
                axes.text(other / own, at, told, va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(WORK)), [name for name, *_ in WORK])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * axes.get_xlim()[1])  # room for what stands beside the longest bar
    axes.set_xlabel("times as fast as PyTorch (line: equal)")
    axes.set_title("Gowalla, 64 dimensions, two CPU cores; PinSAGE on 100,000 items", fontsize=10)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    axes.legend(handles, [f"PyTorch, {form}" for form in COLOURS], loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / "speed.png")


if __name__ == "__main__":
    main()
