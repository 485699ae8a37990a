"""Draw the pins of the generated world, a PNG each: `python docs/draw_pins.py FOLDER`.

The colour is the pin's look, the shape its use, how dark it is its style. Then `pinsage-jax similar
pins --item … --sheet near.png --pictures FOLDER` shows neighbours as pictures.
"""

import colorsys
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from pinsage_jax import PinWorld, generate_pins

SHAPES = "osD^v<>p*hX8P"


def main(folder: Path) -> None:
    """Draw the default world.

    Args:
        folder: for the pictures, named as the pins are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = generate_pins(PinWorld(items=2_000)).data
    looks, uses, styles = (data.labels[name] for name in ("look", "use", "style"))
    count = looks.max() + 1
    figure, axes = plt.subplots(figsize=(0.6, 0.6), dpi=100)
    for row, pin in enumerate(data.interactions.items.ids):
        dark = 0.45 + 0.55 * styles[row] / max(1, styles.max())
        colour = colorsys.hsv_to_rgb(looks[row] / count, 0.75, dark)
        axes.clear()
        axes.set_axis_off()
        axes.plot(0, 0, SHAPES[uses[row] % len(SHAPES)], color=colour, markersize=30)
        figure.savefig(folder / f"{pin}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
