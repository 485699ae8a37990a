"""Formats: what they look like, and which one files have by their names and lines."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from lightgcn_jax.data.delimited import first_lines, shape_of_lines
from lightgcn_jax.data.reading import BLANKS, Options
from lightgcn_jax.data.roles import is_place, usual_column
from lightgcn_jax.data.text import PlainText
from lightgcn_jax.errors import InputError

FORMATS = {
    "adjacency": "lines 'user item item …'; a folder with train.txt and test.txt [and valid.txt]",
    "triples": "lines 'user item [rating [timestamp]]' without a header; "
    "a folder with train.txt and test.txt, or data1.txt and test1.txt",
    "csv": "comma-separated columns under a header",
    "tsv": "tab-separated columns under a header",
    "jsonl": "a JSON object on each line, such as Amazon's and Yelp's reviews",
    "parquet": "a Parquet table",
    "recbole": "an atomic file X.inter, its folder, or X.train.inter, X.valid.inter, X.test.inter",
    "movielens": "ratings.csv, ratings.dat, u.data, or the folder of one of them",
    "hetrec": "user_artists.dat or its folder",
}
"""The formats that ``read_interactions`` knows, and what each of them looks like."""
SEPARATORS = ("\t", ",", ";", "|", " ")
"""What stands between the names of a header, the likeliest first."""
_BY_SUFFIX = {
    ".inter": "recbole",
    ".pq": "parquet",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "jsonl"),
}
_TORN = 0.9  # from this share of lines of one width on, the others may be torn

_COMPRESSION = (".gz", ".zst", ".zlib", ".bz2", ".xz", ".zip")
SINGLE_FILES = {
    "ratings.csv": "movielens",
    "ratings.dat": "movielens",
    "u.data": "movielens",
    "user_artists.dat": "hetrec",
}
"""Files that are known by their names, and their formats."""


def known_formats(format: str) -> str:
    """What a format looks like, or what all look like, for messages.

    Args:
        format: A key of ``FORMATS``, or "auto".
    """
    if format != "auto":
        return f"format {format} is {FORMATS[format]}"
    return "known formats: " + "; ".join(f"{name}: {form}" for name, form in FORMATS.items())


def plain_name(path: Path) -> str:
    """A file's name without the suffix of its compression.

    Args:
        path: The file.
    """
    return path.stem if path.suffix in _COMPRESSION else path.name


def recognised_format(
    paths: Sequence[Path],
    source: Path,
    options: Options,
    opened: Callable[[Path], PlainText],
) -> str:
    """The format of files, by the name of the first and then by their lines.

    Args:
        paths: The files of a log or of one split.
        source: What the user named, for messages.
        options: What the caller says of them.
        opened: Gives the text of a file.

    Returns:
        A key of ``FORMATS``.

    Raises:
        InputError: No format fits, or more than one.
    """
    name = plain_name(paths[0])
    by_name = {**SINGLE_FILES, "data1.txt": "triples", "test1.txt": "triples"}
    if format := by_name.get(name) or _BY_SUFFIX.get(Path(name).suffix.lower()):
        return format
    _, first = first_lines(opened(paths[0]), 1)[0]
    if first.lstrip().startswith("{"):
        return "jsonl"
    if options.header != "yes" and "::" in first:
        return "triples"
    if header_separator(first, options) is not None or options.header == "yes":
        return "tsv" if "\t" in first and options.separator in (None, "\t") else "csv"
    if options.header == "no" or any(map(is_place, options.columns.values())):
        return "triples"
    return _list_or_table([opened(path) for path in paths], source)


def header_separator(first: str, options: Options) -> str | None:
    """What stands between the names of columns, if a line holds such names.

    Args:
        first: The first line that is not blank.
        options: What the caller says of the file.

    Returns:
        The separator by which the line holds the names of users and items, the usual ones or those
        that were asked for; None where there is none.
    """
    for mark in (options.separator,) if options.separator else SEPARATORS:
        cells = first.split() if mark == BLANKS else first.split(mark)
        names = [cell.strip().strip('"').strip() for cell in cells]
        wanted = (options.columns.get(role) for role in ("user", "item"))
        if all(
            usual_column(role, names) is not None if name is None else name in names
            for role, name in zip(("user", "item"), wanted, strict=True)
        ):
            return mark
    return None


def _list_or_table(texts: Sequence[PlainText], source: Path) -> str:
    """The format of files of numbers without a header, by all of their lines.

    A line of an adjacency list may have any width, and a user has one line. Lines of a table have
    one width, and a user may have many. Where lines are pairs both mean the same.
    """
    shapes = []
    for text in texts:
        shape = shape_of_lines(text)
        if shape.odd_line:
            line = next(islice(text.open_lines(), shape.odd_line - 1, None)).strip()[:80]
            raise InputError(
                f"{source}: cannot tell the format, for {text.source}:{shape.odd_line}: expected "
                f"numbers apart by blanks, got {line!r}; pass format=… (--format "
                f"{'|'.join(FORMATS)})"
            )
        shapes.append(shape)
    widths: Counter[int] = Counter()
    for shape in shapes:
        widths.update(shape.widths)
    narrowest, widest = min(widths), max(widths)
    usual, count = widths.most_common(1)[0]
    are_lists = all(one.users == one.lines and one.whole for one in shapes)
    is_table = narrowest == widest in (2, 3, 4)
    if is_table and (widest == 2 or not are_lists):
        return "triples"
    # A few lines of another width may be torn lines of a table.
    is_torn = usual in (3, 4) and count >= _TORN * widths.total()
    if are_lists and not is_table and not is_torn:
        return "adjacency"
    ways = "fits neither of two ways to read it"
    if is_table:
        reason = f"every line has {widest} numbers, and no user has two lines"
        ways = "can be read in two ways"
    elif are_lists:
        others = widths.total() - count
        reason = f"{count:,} lines have {usual} numbers and {others:,} have not"
        ways = "can be read in two ways"
    elif all(one.users == one.lines for one in shapes):
        reason = f"lines have {narrowest} to {widest} numbers, and not all of them are whole"
    else:
        reason = f"lines have {narrowest} to {widest} numbers, and a user has several lines"
    raise InputError(
        f"{source}: {ways}, for {reason}: as lines 'user item item …', format adjacency, or as "
        "lines 'user item rating [timestamp]', format triples; say which by format=… (--format …)"
    )
