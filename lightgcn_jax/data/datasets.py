"""Public data sets by name: find, or download, then check and load.

No data travels with this package. A named set is looked for on disk, else fetched from its source;
what is read is checked by its counts and, where one is known, by its fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.caches import user_cache
from lightgcn_jax.data.download import download as download_file
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, Interactions
from lightgcn_jax.data.manifest import ENTRIES, Counts, DatasetEntry, FileSet, Source
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.synthetic import default_world
from lightgcn_jax.data.title_files import read_titles
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.data.unpacking import extract
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, write_text

DATA_VARIABLE = "GRAPHREC_DATA"
"""The environment variable that names a folder with one folder for each data set."""

_CHUNK = 1 << 20  # pairs turned into text at a time
_RECORD = "fingerprint.txt"


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows."""
    return tuple(ENTRIES)


def describe(
    name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> dict[str, Any]:
    """What is known of a data set, in plain types.

    Args:
        name: one of `dataset_names()`.
        data_dir: as for `load_dataset`.
        cache_dir: as for `load_dataset`.

    Returns:
        name, description, homepage, licence, min_rating, remark, urls, formats (file names to
        reader format), editions (label, users, items, interactions, test, fingerprint) and folder,
        where it lies on this machine, or None.

    Raises:
        InputError: the name is unknown.
    """
    entry = _entry(name)
    found = _find(entry, _folders(name, data_dir, cache_dir))
    plain = ("name", "description", "homepage", "licence", "min_rating", "remark")
    return {field: getattr(entry, field) for field in plain} | {
        "urls": [source.url for source in entry.sources],
        "formats": {" + ".join(file_set.files): file_set.format for file_set in entry.file_sets},
        "editions": [
            {"label": edition.label, **edition.counts._asdict(), "fingerprint": edition.fingerprint}
            for edition in entry.editions
        ],
        "folder": None if found is None else str(found[0]),
    }


def load_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    download: bool = True,
    apply_threshold: bool = True,
) -> Interactions:
    """Load a data set by its name.

    It is looked for in `data_dir`/name, in the folder that GRAPHREC_DATA names, and in the cache;
    found nowhere, it is downloaded into the cache.

    Args:
        name: one of `dataset_names()`.
        data_dir: folder with one folder for each data set.
        cache_dir: where downloads go; ~/.cache/lightgcn-jax, or under XDG_CACHE_HOME, by default.
        download: whether to fetch what is not there.
        apply_threshold: keep only interactions rated at least the entry's `min_rating`.

    Returns:
        De-duplicated interactions; what the steps left out is in their report.

    Raises:
        InputError: the name is unknown, the files are nowhere or cannot be fetched, or they do not
            hold what they should. Files fetched by this call are then removed.
    """
    entry = _entry(name)
    if not entry.sources:
        return default_world().interactions
    folders = _folders(name, data_dir, cache_dir)
    cache = _cache(name, cache_dir)
    found = _find(entry, folders)
    if found is not None:
        interactions = _read_checked(entry, *found, in_cache=found[0] == cache)
    elif cache is None:
        raise InputError(
            f"{name}: not found, and there is no home folder to keep it in: set XDG_CACHE_HOME, or "
            f"{DATA_VARIABLE} to a folder that holds it"
        )
    elif download:
        interactions = _download_checked(entry, cache)
    else:
        places = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{name}: not found in {places}. {_instructions(entry, cache)}")
    interactions = replace(interactions, titles=_titles(entry, folders))
    if apply_threshold and entry.min_rating is not None:
        interactions = interactions.with_min_rating(entry.min_rating)
    return interactions


def _titles(entry: DatasetEntry, folders: list[Path]) -> Titles | None:
    """The items' titles, where a file beside the interactions has them and can be read."""
    found = _find(entry, folders)
    for name, reading in entry.titles if found is not None else ():
        assert found is not None
        path = found[0] / name
        # No run fails for want of a title.
        with suppress(InputError):
            if path.is_file():
                return read_titles(path, **reading)
    return None


def fingerprint(interactions: Interactions) -> str:
    """SHA-256 of the set of (user, item, part), whatever the order of rows and the file format.

    The digest is taken over UTF-8 text with one line for each distinct triple:

        user TAB item TAB part LF

    where user and item are external ids, integers in decimal, with backslash, tab, line feed and
    carriage return written as two characters (\\\\, \\t, \\n, \\r), and part is `train`, `valid`,
    `test`, or `-` where the interactions have no parts. Lines are ordered by the bytes of user,
    then of item, then train before valid before test. Ratings, times and ids without interactions
    do not count.

    Args:
        interactions: E pairs; memory is O(E).

    Returns:
        64 hexadecimal digits.
    """
    user_texts, user_places = _ordered_texts(interactions.users)
    item_texts, item_places = _ordered_texts(interactions.items)
    keys = user_places[interactions.user_rows] * np.uint64(len(item_texts))
    keys += item_places[interactions.item_rows]
    keys *= np.uint64(len(PARTS))
    names = pl.Series(["-"])
    if interactions.parts is not None:
        keys += interactions.parts
        names = pl.Series(PARTS)
    keys = np.unique(keys)
    digest = hashlib.sha256()
    for start in range(0, keys.size, _CHUNK):
        pairs, parts = np.divmod(keys[start : start + _CHUNK], np.uint64(len(PARTS)))
        users, items = np.divmod(pairs, np.uint64(len(item_texts)))
        cells = user_texts.gather(users), item_texts.gather(items), names.gather(parts)
        lines = pl.select(line=pl.concat_str(*cells, separator="\t"))["line"]
        digest.update("\n".join(lines.to_list()).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _ordered_texts(ids: IdMap) -> tuple[pl.Series, np.ndarray]:
    """Escaped ids in the order of their bytes, and uint64[n], the place of each row among them."""
    texts = ids.ids.cast(pl.String)
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        texts = texts.str.replace_all(plain, escaped, literal=True)
    order = texts.arg_sort().to_numpy()
    places = np.empty(order.size, dtype=np.uint64)
    places[order] = np.arange(order.size, dtype=np.uint64)
    return texts.gather(order), places


def _entry(name: str) -> DatasetEntry:
    if name not in ENTRIES:
        raise InputError(f"unknown data set {name!r}: expected one of {', '.join(ENTRIES)}")
    return ENTRIES[name]


def _folders(name: str, data_dir: Path | None, cache_dir: Path | None) -> list[Path]:
    """Where a data set may lie, the cache last."""
    local = os.environ.get(DATA_VARIABLE)
    roots = [data_dir, Path(local) if local else None]
    folders = [Path(root) / name for root in roots if root is not None]
    cache = _cache(name, cache_dir)
    return folders if cache is None else [*folders, cache]


def _cache(name: str, cache_dir: Path | None) -> Path | None:
    """Where a download of a data set is kept; None where there is no home folder."""
    if cache_dir is not None:
        return Path(cache_dir) / name
    cache = user_cache()
    return None if cache is None else cache / name


def _find(entry: DatasetEntry, folders: list[Path]) -> tuple[Path, FileSet] | None:
    for folder in folders:
        for file_set in entry.file_sets:
            if all((folder / file).is_file() for file in file_set.files):
                return folder, file_set
    return None


def _read_checked(
    entry: DatasetEntry, folder: Path, file_set: FileSet, *, in_cache: bool
) -> Interactions:
    interactions = read_interactions(
        file_set.path(folder), format=file_set.format, missing="error"
    ).deduplicated()
    test = 0 if interactions.parts is None else int((interactions.parts == TEST).sum())
    counts = Counts(interactions.num_users, interactions.num_items, len(interactions), test)
    edition = next((edition for edition in entry.editions if edition.counts == counts), None)
    if edition is None:
        expected = " or ".join(str(edition.counts) for edition in entry.editions)
        raise InputError(
            f"{entry.name} in {folder}: expected {expected}; found {counts}. {_remedy(entry)}"
        )
    found = fingerprint(interactions)
    expected, origin = edition.fingerprint, "the published set's"
    record = folder / _RECORD
    if expected is None and in_cache:
        if record.is_file():
            expected, origin = record.read_text().strip(), f"the first download's, in {record}"
        else:
            with suppress(OSError):  # a cache that cannot be written to can still be read
                write_text(record, found + "\n")
    if expected not in (None, found):
        raise InputError(
            f"{entry.name} in {folder}: the counts fit but the pairs do not: expected fingerprint"
            f" {expected} ({origin}), found {found}. {_remedy(entry)}"
        )
    return interactions


def _remedy(entry: DatasetEntry) -> str:
    remark = f" {entry.remark}" if entry.remark else ""
    return f"Remove these files to fetch them again, or read them as your own data.{remark}"


def _download_checked(entry: DatasetEntry, folder: Path) -> Interactions:
    fetched: list[Path] = []
    busy = "another process is fetching it; wait for it, then try again."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", busy, leave=False):
            for source in entry.sources:
                if not all((folder / file).is_file() for file in source.kept):
                    fetched += _fetch(source, folder)
    except OSError as error:
        raise InputError(
            f"{entry.name}: cannot write to {folder}: {error.strerror}. "
            f"{_instructions(entry, folder)}"
        ) from error
    except InputError as error:
        raise InputError(f"{entry.name}: {error} {_instructions(entry, folder)}") from error
    found = _find(entry, [folder])
    assert found is not None, "an entry's sources must make up one of its file sets"
    try:
        return _read_checked(entry, *found, in_cache=True)
    except InputError:
        for path in fetched:
            path.unlink(missing_ok=True)
        raise


def _fetch(source: Source, folder: Path) -> list[Path]:
    """Download one source into the folder; the files that it adds."""
    file = folder / source.file_name
    if not file.is_file():  # an archive may have been put there by hand
        download_file(source.url, file, size=source.size, sha256=source.sha256)
    if not source.members:
        return [file]
    try:
        paths = extract(file, source.members, folder)
    except InputError:
        # Damaged: the next try must fetch it anew. After a full disk or Ctrl-C it is still good.
        file.unlink()
        raise
    file.unlink()
    return paths


def _instructions(entry: DatasetEntry, folder: Path) -> str:
    files = "; ".join(f"{' and '.join(source.kept)} from {source.url}" for source in entry.sources)
    return (
        f"Without a network, put these files into {folder}, or into the folder {entry.name} of the"
        f" one that {DATA_VARIABLE} names: {files}."
    )
