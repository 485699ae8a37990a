"""What a picture shows, as Matplotlib was told."""

import contextlib

from matplotlib.figure import Figure


class Drawn(list):
    """The figures that were saved, in their order."""

    def texts(self):
        """Titles, labels, ticks and legends of the last figure, and what stands above them."""
        figure = self[-1]
        found = [text.get_text() for part in figure.subfigs for text in part.texts]
        found.append(figure.get_suptitle())
        for axes in figure.axes:
            found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
            found += [tick.get_text() for tick in axes.get_xticklabels()]
            legend = axes.get_legend()
            found += [] if legend is None else [text.get_text() for text in legend.get_texts()]
        return found

    def scales(self):
        """The scales of all axes of the last figure."""
        return {scale for axes in self[-1].axes for scale in (axes.get_xscale(), axes.get_yscale())}


@contextlib.contextmanager
def drawing(monkeypatch):
    """Collects the figures that are saved while the block runs."""
    figures, save = Drawn(), Figure.savefig

    def saving(figure, *arguments, **options):
        figures.append(figure)
        return save(figure, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", saving)
        yield figures
