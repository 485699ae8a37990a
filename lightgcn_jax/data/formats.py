"""Formats: which files a path stands for, and which format they have by their names and lines."""

from collections.abc import Sequence
from pathlib import Path

from lightgcn_jax.data.delimited import first_lines, shape_of_lines
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID
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
_COMPRESSION = (".gz", ".zst", ".zlib")
_SINGLE_FILES = {
    "ratings.csv": "movielens",
    "ratings.dat": "movielens",
    "u.data": "movielens",
    "user_artists.dat": "hetrec",
}
_PART_FILES = (
    {TRAIN: "train.txt", VALID: "valid.txt", TEST: "test.txt"},
    {TRAIN: "data1.txt", VALID: "valid1.txt", TEST: "test1.txt"},
)


def files_of(source: Path, format: str) -> dict[int, Path]:
    """The files to read.

    Args:
        source: A file, or a folder.
        format: A key of ``FORMATS``, or "auto".

    Returns:
        The files by the part that each of them is; a single file is under TRAIN.

    Raises:
        InputError: The folder holds no file that a folder is read by, or more than one could be
            meant.
    """
    if source.is_file():
        return {TRAIN: source}
    inside: dict[str, Path] = {}
    for file in sorted(source.iterdir()):
        if file.is_file():
            inside.setdefault(plain_name(file), file)
    if format in ("auto", "recbole"):
        atomic = [name for name in inside if name.endswith(".inter")]
        parts = {
            part: [name for name in atomic if name.endswith(f".{suffix}.inter")]
            for part, suffix in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test"))
        }
        found = {part: inside[names[0]] for part, names in parts.items() if len(names) == 1}
        if len(found) == len(atomic) and TRAIN in found and TEST in found:
            return found
        if len(atomic) == 1:
            return {TRAIN: inside[atomic[0]]}
        if atomic:
            raise InputError(
                f"{source}: expected one .inter file, or one each of .train.inter, .valid.inter "
                f"and .test.inter, got {', '.join(atomic)}; name the file"
            )
    if format in ("auto", "adjacency", "triples"):
        for names in _PART_FILES:
            if names[TRAIN] in inside and names[TEST] in inside:
                return {part: inside[name] for part, name in names.items() if name in inside}
    for name, known in _SINGLE_FILES.items():
        if format in ("auto", known) and name in inside:
            return {TRAIN: inside[name]}
    raise InputError(
        f"{source}: this folder holds no file that a folder is read by; {_known(format)}; "
        "or name a file in it"
    )


def _known(format: str) -> str:
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
    by_name = {**_SINGLE_FILES, "data1.txt": "triples", "test1.txt": "triples"}
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
    raise InputError(f"{source}: cannot tell the format; pass format=…; {_known('auto')}")


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
