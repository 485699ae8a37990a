"""The public data sets: sources, terms, and what each of them must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """What a data set holds after de-duplication and before any threshold.

    Attributes:
        users: their number.
        items: their number.
        interactions: of all parts together.
        test: those of test; 0 where the files give no split.
    """

    users: int
    items: int
    interactions: int
    test: int

    def __str__(self) -> str:
        test = f", {self.test:,} of them test" if self.test else ""
        return (
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions{test}"
        )


@dataclass(frozen=True)
class Edition:
    """One published state of a data set.

    Attributes:
        counts: what it holds.
        fingerprint: see `datasets.fingerprint`; None where nobody has computed it yet: then the
            first download's is written beside the data and holds from then on.
        label: tells editions apart where there are several.
    """

    counts: Counts
    fingerprint: str | None
    label: str = ""


@dataclass(frozen=True)
class Source:
    """A file to download.

    Attributes:
        url: its address.
        members: of a zip archive, what is kept, in one folder; empty for any other file.
        size: bytes; None where they are not known.
        sha256: their sum, in hexadecimal; None where it is not known.
    """

    url: str
    members: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(member.rpartition("/")[2] for member in self.members) or (self.file_name,)


@dataclass(frozen=True)
class FileSet:
    """Files in which the set is known to lie.

    Attributes:
        files: their names.
        format: the reader's for them.
    """

    files: tuple[str, ...]
    format: str

    def path(self, folder: Path) -> Path:
        """What the reader takes: a single file by its name, several by their folder.

        Args:
            folder: in which they lie.
        """
        return folder / self.files[0] if len(self.files) == 1 else folder


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a data set.

    Attributes:
        name: also the name of its folder.
        description: one line.
        homepage: where to read about it.
        licence: the terms, as its publishers state them.
        sources: what to download.
        file_sets: the forms in which it is recognised on disk, all with the same pairs.
        editions: the states that are accepted.
        min_rating: the lowest rating that counts as an interaction; None counts all.
        remark: what to know when a check fails.
        titles: files that may hold the items' titles, and how to read each.
    """

    name: str
    description: str
    homepage: str
    licence: str
    sources: tuple[Source, ...] = ()
    file_sets: tuple[FileSet, ...] = ()
    editions: tuple[Edition, ...] = ()
    min_rating: float | None = None
    remark: str = ""
    titles: tuple[tuple[str, Mapping[str, Any]], ...] = ()


# The commit fixes the content: later changes of the repository do not reach these addresses.
_LIGHTGCN_DATA = (
    "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/"
    "947ca2b3b1d2d3545b114145710cb06c4e57b3d2/data"
)
_GROUPLENS = "https://files.grouplens.org/datasets"
_LIGHTGCN_LICENCE = (
    "Preprocessed by the authors of NGCF and LightGCN; the LightGCN-PyTorch repository that serves"
    " it carries no licence, so ask its authors before redistributing it. "
)
_MOVIELENS_TERMS = (
    "Research use; acknowledge it in publications; no endorsement may be implied; no commercial use"
    " without permission from GroupLens; "
)
_TRAIN_TEST = FileSet(("train.txt", "test.txt"), "adjacency")


# Size and sum of those files that were at hand when this was written.
_LIGHTGCN_FILES = {
    "gowalla/test.txt": (
        1_372_559,
        "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
    ),
    "yelp2018/test.txt": (
        1_986_152,
        "9cd9b37926cd1447a06625ffa7914527573fb097c10cb0bbdb1d1b8ded3742fe",
    ),
    "amazon-book/test.txt": (
        3_848_611,
        "6250754994dd953b91b48dccdd77a73f318e0634b4757c2abfcc9d33a54ab0f5",
    ),
    "lastfm/data1.txt": (
        579_727,
        "c82af3228cbbda2f55a39244de09ed93292894f1d0d9f1908ebb57e27598fded",
    ),
    "lastfm/test1.txt": (
        144_867,
        "de4417c0e6123284ce59a0934bcf5288ec1ec8774a18a1eef453c9952dfa48f9",
    ),
}


def _lightgcn_sources(name: str, *files: str) -> tuple[Source, ...]:
    paths = [f"{name}/{file}" for file in files]
    known = [_LIGHTGCN_FILES.get(path, (None, None)) for path in paths]
    return tuple(
        Source(f"{_LIGHTGCN_DATA}/{path}", size=size, sha256=sha256)
        for path, (size, sha256) in zip(paths, known, strict=True)
    )


ENTRIES: dict[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="synthetic",
            description="A generated block world: 12 groups, known preferences, no download",
            homepage="",
            licence="None needed: it is generated.",
        ),
        DatasetEntry(
            name="gowalla",
            description="Check-ins at places; the train/test split of NGCF and LightGCN",
            homepage="https://snap.stanford.edu/data/loc-gowalla.html",
            licence=_LIGHTGCN_LICENCE + "The check-ins come from SNAP.",
            sources=_lightgcn_sources("gowalla", "train.txt", "test.txt"),
            file_sets=(_TRAIN_TEST,),
            editions=(
                Edition(
                    Counts(29_858, 40_981, 1_027_370, 217_242),
                    "f64f709c991374ae7cc121778e23549b2db9298ddf3e68f7f239079bc11730ea",
                ),
            ),
        ),
        DatasetEntry(
            name="yelp2018",
            description="Visits to businesses; the train/test split of NGCF and LightGCN",
            homepage="https://www.yelp.com/dataset",
            licence=_LIGHTGCN_LICENCE + "The Yelp dataset has its own terms of use.",
            sources=_lightgcn_sources("yelp2018", "train.txt", "test.txt"),
            file_sets=(_TRAIN_TEST,),
            editions=(Edition(Counts(31_668, 38_048, 1_237_259 + 324_147, 324_147), None),),
        ),
        DatasetEntry(
            name="amazon-book",
            description="Book reviews; the train/test split of NGCF and LightGCN",
            homepage="http://jmcauley.ucsd.edu/data/amazon",
            licence=_LIGHTGCN_LICENCE + "The reviews come from UCSD.",
            sources=_lightgcn_sources("amazon-book", "train.txt", "test.txt"),
            file_sets=(_TRAIN_TEST,),
            editions=(Edition(Counts(52_643, 91_599, 2_380_730 + 603_378, 603_378), None),),
        ),
        DatasetEntry(
            # Published tables say 1,892 users, the highest id; 12 of those ids are in no line.
            name="lastfm",
            description="Artists listened to; the small train/test split of LightGCN-PyTorch",
            homepage="https://github.com/gusye1234/LightGCN-PyTorch",
            licence=_LIGHTGCN_LICENCE + "It derives from HetRec 2011, for non-commercial use.",
            sources=_lightgcn_sources("lastfm", "data1.txt", "test1.txt"),
            file_sets=(FileSet(("data1.txt", "test1.txt"), "triples"),),
            editions=(
                Edition(
                    Counts(1_880, 4_489, 52_668, 10_533),
                    "c4bf6b6de9c177053895dad3c0c4e4e4e952b2ee4f0148878d1028d37c4660f7",
                ),
            ),
        ),
        DatasetEntry(
            name="ml-100k",
            description="MovieLens 100K: film ratings of 1997 and 1998, from 1 to 5",
            homepage="https://grouplens.org/datasets/movielens/100k/",
            licence=_MOVIELENS_TERMS + "no redistribution without separate permission.",
            sources=(
                Source(f"{_GROUPLENS}/movielens/ml-100k.zip", ("ml-100k/u.data", "ml-100k/u.item")),
            ),
            file_sets=(
                FileSet(("u.data",), "movielens"),
                FileSet(("ml-100k.inter",), "recbole"),
            ),
            editions=(
                Edition(
                    Counts(943, 1_682, 100_000, 0),
                    "5c532cef34cd5ef0e225a5432ed51b3a1496cc2a2fff23d4fc3ba8429d07cdf7",
                ),
            ),
            min_rating=4.0,
            titles=(
                ("ml-100k.item", {}),
                (
                    "u.item",
                    {
                        "format": "csv",
                        "separator": "|",
                        "header": "no",
                        "quoting": "none",
                        "encoding": "latin-1",
                    },
                ),
            ),
        ),
        DatasetEntry(
            name="ml-1m",
            description="MovieLens 1M: film ratings of users who joined in 2000, from 1 to 5",
            homepage="https://grouplens.org/datasets/movielens/1m/",
            licence=_MOVIELENS_TERMS + "no redistribution without separate permission.",
            sources=(Source(f"{_GROUPLENS}/movielens/ml-1m.zip", ("ml-1m/ratings.dat",)),),
            file_sets=(
                FileSet(("ratings.dat",), "movielens"),
                FileSet(("ml-1m.inter",), "recbole"),
            ),
            editions=(Edition(Counts(6_040, 3_706, 1_000_209, 0), None),),
            min_rating=4.0,
        ),
        DatasetEntry(
            name="ml-latest-small",
            description="MovieLens latest small: film ratings from half a star to five",
            homepage="https://grouplens.org/datasets/movielens/latest/",
            licence=_MOVIELENS_TERMS + "redistribution under the same conditions only.",
            sources=(
                Source(
                    f"{_GROUPLENS}/movielens/ml-latest-small.zip",
                    ("ml-latest-small/ratings.csv", "ml-latest-small/movies.csv"),
                ),
            ),
            file_sets=(FileSet(("ratings.csv",), "movielens"),),
            editions=(
                Edition(
                    Counts(671, 9_066, 100_004, 0),
                    "ad00d3ec046a7b677277e7c916041bdc0b68343f819de7d286954978f8199100",
                    "October 2016",
                ),
                Edition(Counts(610, 9_724, 100_836, 0), None, "September 2018"),
            ),
            min_rating=4.0,
            remark=(
                "GroupLens replaces this set from time to time under one address and keeps no old"
                " editions there: that of October 2016 cannot be downloaded any more, and one newer"
                " than September 2018 is not known here."
            ),
            titles=(("movies.csv", {}),),
        ),
        DatasetEntry(
            name="hetrec-lastfm",
            description="HetRec 2011 Last.fm 2K: artists listened to, with listening counts",
            homepage="https://grouplens.org/datasets/hetrec-2011/",
            licence="Non-commercial use; for any other, ask Last.fm.",
            sources=(
                Source(
                    f"{_GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip",
                    ("user_artists.dat", "artists.dat"),
                ),
            ),
            titles=(("artists.dat", {"format": "tsv", "quoting": "none"}),),
            file_sets=(FileSet(("user_artists.dat",), "hetrec"),),
            editions=(
                Edition(
                    Counts(1_892, 17_632, 92_834, 0),
                    "f0cf562003873dc685ddaf6957bdec20cbece2ab18f6844a6acbe507f7bf718e",
                ),
            ),
        ),
    )
}
"""Every known data set by its name; one without sources is generated."""
