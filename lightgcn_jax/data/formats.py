"""Formats: what they look like, and which one files have by their names and lines."""

from collections.abc import Sequence
from pathlib import Path

from lightgcn_jax.data.delimited import first_lines, shape_of_lines
from lightgcn_jax.errors import InputError

FORMATS = {
    "adjacency": "lines 'user item item …'; a folder with train.txt and test.txt [and valid.txt]",
    "triples": "lines 'user item [rating [timestamp]]' without a header; "
    "a folder with train.txt and test.txt, or data1.txt and test1.txt",
    "csv": "comma-separated columns under a header",
    "tsv": "tab-separated columns under a header",
    "parquet": "a Parquet table",
    "recbole": "an atomic file X.inter, its folder, or X.train.inter, X.valid.inter, X.test.inter",
    "movielens": "ratings.csv, ratings.dat, u.data, or the folder of one of them",
    "hetrec": "user_artists.dat or its folder",
}
"""The formats that ``read_interactions`` knows, and what each of them looks like."""

# Names in the order of preference, compared without case, blanks, hyphens and underscores.
COLUMN_NAMES = {
    "user": ("userid", "user", "uid", "username", "reviewerid", "customerid", "visitorid"),
    "item": (
        *("itemid", "item", "iid", "movieid", "artistid", "productid", "parentasin", "asin"),
        *("bookid", "businessid", "trackid", "songid", "venueid", "locationid"),
        *("movie", "artist", "product", "track", "song", "book"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "weight", "playcount", "count"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "unixreviewtime"),
}
"""Usual names of the columns of each role."""
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


def recognised_format(paths: Sequence[Path], source: Path) -> str:
    """The format of files, by the name of the first and then by their lines.

    Args:
        paths: The files of one split, or a single one.
        source: What the user named, for messages.

    Returns:
        A key of ``FORMATS``.

    Raises:
        InputError: No format fits, or more than one.
    """
    path = paths[0]
    name = plain_name(path)
    by_name = {**SINGLE_FILES, "data1.txt": "triples", "test1.txt": "triples"}
    by_suffix = {".inter": "recbole", ".pq": "parquet", ".parquet": "parquet"}
    by_suffix |= {".csv": "csv", ".tsv": "tsv"}
    if format := by_name.get(name) or by_suffix.get(Path(name).suffix):
        return format
    lines = [line for _, line in first_lines(path, 1000)]
    if "::" in lines[0]:
        return "movielens"
    for separator, format in (("\t", "tsv"), (",", "csv")):
        names = [cell.strip().strip('"') for cell in lines[0].split(separator)]
        if all(usual_column(role, names) is not None for role in ("user", "item")):
            return format
    if all(_is_number(cell) for line in lines[:20] for cell in line.split()):
        return _list_or_table(paths, source)
    raise InputError(f"{source}: cannot tell the format; pass format=…; {known_formats('auto')}")


def _list_or_table(paths: Sequence[Path], source: Path) -> str:
    """The format of files of numbers without a header, by all of their lines.

    A line of an adjacency list may have any width, and a user has one line. Lines of a table have
    one width, and a user may have many. Where lines are pairs both mean the same.
    """
    shapes = [shape_of_lines(path) for path in paths]
    narrowest, widest = min(one.narrowest for one in shapes), max(one.widest for one in shapes)
    are_lists = all(one.users == one.lines for one in shapes)
    is_table = narrowest == widest in (2, 3, 4)
    if is_table and (widest == 2 or not are_lists):
        return "triples"
    if are_lists and not is_table:
        return "adjacency"
    if is_table:
        reason = f"every line has {widest} numbers, and no user has two lines"
        ways = "can be read in two ways"
    else:
        reason = f"lines have {narrowest} to {widest} numbers, and a user has several lines"
        ways = "fits neither of two ways to read it"
    raise InputError(
        f"{source}: {ways}, for {reason}: as lines 'user item item …', format adjacency, or as "
        "lines 'user item rating [timestamp]', format triples; say which by format=… (--format …)"
    )


def _is_number(cell: str) -> bool:
    return cell.lstrip("-").replace(".", "", 1).isdigit()


def usual_column(role: str, names: Sequence[str]) -> int | None:
    """Where a column that is named as usual stands.

    Args:
        role: A key of ``COLUMN_NAMES``.
        names: The columns' names.

    Returns:
        The place of the preferred one; None where no name is usual for the role.
    """
    plain = [name.lower().translate(str.maketrans("", "", "_- ")) for name in names]
    return next((plain.index(name) for name in COLUMN_NAMES[role] if name in plain), None)
