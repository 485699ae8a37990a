"""Neighbours shown as a table with their features, and as a sheet of their pictures."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from pinsage_jax.features.columns import Column
from pinsage_jax.features.table import FeatureTable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""How pictures' names end, in small letters or capitals."""
LARGEST_FILE = 16 * 2**20
LARGEST_PICTURE = 40_000_000
"""In pixels, each of which takes up to four bytes when it is decoded."""
_FORMATS = ("PNG", "JPEG", "WEBP")
_THUMBNAIL = 160
_SHOWN_NUMBERS = 4


class NeighbourRows(NamedTuple):
    """A table as ``lightgcn_jax.cli.console.table`` draws it.

    Attributes:
        columns: ``query``, ``place``, ``item``, ``score`` and the feature columns.
        rows: for each query a row with place 0, and then the rows of its neighbours.
        numbers: the columns that hold numbers.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: tuple[str, ...] = ("place", "score")


class ContactSheet(NamedTuple):
    """A sheet of pictures, and counts of its cells.

    Attributes:
        path: the PNG; None without matplotlib (the extra ``plot``).
        shown: how many cells have a picture.
        missing: how many cells have no path of a picture.
        broken: how many pictures were refused or could not be read.
    """

    path: Path | None
    shown: int
    missing: int
    broken: int


def neighbours_table(
    queries: np.ndarray,
    ids: np.ndarray,
    scores: np.ndarray,
    features: FeatureTable,
    items: IdMap,
    columns: Sequence[str] | None = None,
    *,
    longest: int = 60,
) -> NeighbourRows:
    """Write neighbours and their features as text.

    Args:
        queries: ``int[Q]``, item rows.
        ids: ``int[Q, K]``, their neighbours' rows, best first; −1 pads and is not shown.
        scores: ``float[Q, K]``.
        features: a row for each item.
        items: external ids of the rows.
        columns: the feature columns to show; None for all.
        longest: how many characters a text may have before it is cut.

    Raises:
        InputError: shapes do not fit, or a column or an item row is not there.
    """
    queries, ids, scores = _checked(queries, ids, len(items), scores)
    known = features.columns
    names = tuple(known if columns is None else columns)
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"columns: expected some of {', '.join(known) or 'none'}, got {', '.join(unknown)}"
        )

    def row(query: int, place: str, item: int, score: str) -> tuple[str, ...]:
        query_id, item_id = (_shown(value, longest) for value in items.external([query, item]))
        values = (_value(known[name], item) for name in names)
        return query_id, place, item_id, score, *(_shown(value, longest) for value in values)

    rows = []
    for at, query in enumerate(queries):
        rows.append(row(query, "0", query, ""))
        for place, (item, score) in enumerate(zip(ids[at], scores[at], strict=True), 1):
            if item >= 0:
                rows.append(row(query, str(place), item, f"{score:.4f}"))
    return NeighbourRows(("query", "place", "item", "score", *names), rows)


def contact_sheet(
    path: Path,
    queries: np.ndarray,
    ids: np.ndarray,
    pictures: Sequence[str | None],
    items: IdMap,
    folder: Path,
) -> ContactSheet:
    """Draw a PNG with a line for each query: its picture, then those of its neighbours.

    The pictures are not trusted. Only PNG, JPEG and WebP files inside ``folder`` are read, up to
    16 MB and 40 million pixels. In place of any other file the sheet has an empty cell that says
    so, and it is counted. A picture is turned as its EXIF data say, and grey of 16 bits is shown
    with the upper eight.

    Args:
        path: the PNG to write.
        queries: ``int[Q]``, item rows.
        ids: ``int[Q, K]``, their neighbours' rows, best first; −1 pads.
        pictures: a path for each item, relative to ``folder``; None or empty for none.
        items: external ids of the rows.
        folder: where the pictures lie.

    Raises:
        InputError: shapes do not fit, an item row is not there, or there is no query.
    """
    queries, ids, _ = _checked(queries, ids, len(items))
    if len(pictures) != len(items):
        raise InputError(f"pictures: expected {len(items)}, one an item, got {len(pictures)}")
    if not queries.size:
        raise InputError("queries: expected at least one, got none")
    if importlib.util.find_spec("matplotlib") is None:
        return ContactSheet(None, 0, 0, 0)
    from matplotlib.figure import Figure

    cells = np.concatenate([queries[:, None], ids], axis=1)
    height, width = cells.shape
    figure = Figure(figsize=(1.5 * width, 1.7 * height), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False)
    counts = {"shown": 0, "missing": 0, "broken": 0}
    for (line, column), item in np.ndenumerate(cells):
        cell: Any = axes[line, column]
        cell.set_axis_off()
        if item < 0:
            continue
        # An id is plain text, in which $ must not start a formula.
        cell.set_title(_shown(items.external([item])[0], 18), fontsize=7, parse_math=False)
        picture, why = read_picture(folder, pictures[item])
        counts[why] += 1
        if picture is None:
            cell.text(0.5, 0.5, f"{why} picture", ha="center", va="center", fontsize=7)
        else:
            cell.imshow(picture)
    with replacing(path) as temporary, warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", dpi=120)
    return ContactSheet(path, **counts)


def read_picture(folder: Path, name: str | None) -> tuple[np.ndarray | None, str]:
    """Read a picture that is not trusted.

    Args:
        folder: where it must lie.
        name: of its file; None for none.

    Returns:
        A thumbnail ``uint8[h, w, 3]`` and ``shown``, or None and ``missing`` or ``broken``.
    """
    if not name:
        return None, "missing"
    # Pillow comes with matplotlib. matplotlib.image.imread tries every format that Pillow knows,
    # whatever the file's name; here few formats are tried, and the size is known before the pixels.
    from PIL import Image, ImageOps

    # A decoder may fail in any way on bytes that are not trusted. One broken picture must not cost
    # the whole sheet; it is counted.
    with contextlib.suppress(Exception):
        root = folder.resolve()
        file = (root / name).resolve()
        allowed = file.is_relative_to(root) and file.suffix.lower() in SUFFIXES
        if allowed and file.is_file() and file.stat().st_size <= LARGEST_FILE:
            # A size that Pillow only warns of is beyond the limit below.
            ignoring = warnings.catch_warnings(action="ignore")
            with ignoring, Image.open(file, formats=_FORMATS) as picture:
                if picture.width * picture.height <= LARGEST_PICTURE:
                    if picture.mode.startswith("I"):
                        small = Image.fromarray(_upper_bits(np.asarray(picture)))
                        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
                    else:
                        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
                        small = ImageOps.exif_transpose(picture)
                    return np.asarray(small.convert("RGB")), "shown"
    return None, "broken"


def named_picture(folder: Path, item: int | str) -> str | None:
    """Name the picture that is called as its item, if there is one.

    Args:
        folder: where the pictures lie.
        item: an external id.
    """
    endings = (form for suffix in SUFFIXES for form in (suffix, suffix.upper()))
    # An id is no path: one with a separator in it names no picture.
    names = (f"{item}{ending}" for ending in endings)
    return next((one for one in names if Path(one).name == one and (folder / one).exists()), None)


def _upper_bits(grey: np.ndarray) -> np.ndarray:
    """The upper eight of 16 bits, ``uint8[h, w]``; Pillow would cut larger values at 255."""
    return np.clip(grey.astype(np.int64) >> 8, 0, 255).astype(np.uint8)


def _value(column: Column, item: int) -> Any:
    """An item's value of a column; None where a vector is missing."""
    missing = column.missing is not None and column.missing[item]
    return None if missing else column.values[item]


def _shown(value: Any, longest: int) -> str:
    """A feature's value in one line of printable signs, cut after ``longest`` characters."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    elif isinstance(value, np.ndarray):
        more = ", …" if len(value) > _SHOWN_NUMBERS else ""
        text = ", ".join(f"{number:.3g}" for number in value[:_SHOWN_NUMBERS]) + more
    elif isinstance(value, float | np.floating):
        text = "" if np.isnan(value) else f"{value:g}"
    else:
        text = str(value)
    # Texts come from files: line breaks and control signs of terminals do not belong in a cell.
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _checked(
    queries: np.ndarray, ids: np.ndarray, num_items: int, scores: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    queries, ids = np.asarray(queries), np.asarray(ids)
    scores = np.zeros(ids.shape) if scores is None else np.asarray(scores)
    if queries.ndim != 1 or ids.ndim != 2 or len(ids) != len(queries) or scores.shape != ids.shape:
        raise InputError(
            f"neighbours: expected queries [Q], ids and scores [Q, K], "
            f"got {list(queries.shape)}, {list(ids.shape)} and {list(scores.shape)}"
        )
    for name, rows, least in (("queries", queries, 0), ("ids", ids, -1)):
        if rows.size and not (rows.min() >= least and rows.max() < num_items):
            raise InputError(
                f"{name}: expected item rows of {least} to {num_items - 1}, "
                f"got {rows.min()} to {rows.max()}"
            )
    return queries, ids, scores
