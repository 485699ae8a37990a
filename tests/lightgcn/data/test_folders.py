"""What a folder stands for, and what stands in a packed file; everything else is named."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import tempfile
import zipfile

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.errors import InputError

# Every user and item stands in each half, so that any split of these fits.
PAIRS = [(u, i) for u in range(6) for i in range(5)]
LOG = pl.DataFrame(
    {"user_id": [u for u, _ in PAIRS], "item_id": [10 + i for _, i in PAIRS], "rating": range(30)}
).sample(fraction=1, shuffle=True, seed=1)
TRAIN_ROWS, VALID_ROWS, TEST_ROWS = LOG[:20], LOG[20:24], LOG[24:]


def written(frame: pl.DataFrame, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    writers = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "ipc"}
    options = {"separator": "\t"} if path.suffix == ".tsv" else {}
    getattr(frame, f"write_{writers[path.suffix]}")(path, **options)
    return path


def rows_of(data: Interactions):
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    assert data.ratings is not None
    return list(zip(users, items, data.ratings.tolist(), strict=True))


CSV = LOG.write_csv().encode()
EXPECTED = [tuple(map(float, row)) for row in LOG.rows()]


def test_a_folder_of_spark_is_one_log(tmp_path):
    for at in range(3):
        written(LOG[at * 10 : at * 10 + 10], tmp_path / f"part-0000{at}-c000.snappy.parquet")
    for litter in ("_SUCCESS", "._SUCCESS.crc", ".part-00000-c000.snappy.parquet.crc"):
        (tmp_path / litter).write_bytes(b"\x00\x01")
    (tmp_path / "_temporary").mkdir()
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    first, last = "part-00000-c000.snappy.parquet", "part-00002-c000.snappy.parquet"
    assert data.notes == (f"3 files are read as one log: {first} … {last}",)


def test_folders_of_hive_are_one_log(tmp_path):
    written(LOG[:10], tmp_path / "year=2020" / "day=2" / "part-0.parquet")
    written(LOG[10:20], tmp_path / "year=2020" / "day=10" / "part-0.parquet")
    written(LOG[20:], tmp_path / "year=2021" / "day=1" / "part-0.parquet")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    assert data.notes[1] == "year, day: in the names of folders, and not read"
    asked = read_interactions(tmp_path, rating_column="day")
    assert asked.ratings.tolist() == [2.0] * 10 + [10.0] * 10 + [1.0] * 10
    assert asked.notes[1:] == (
        "day: read from the names of folders",
        "year: in the names of folders, and not read",
    )


def test_folders_of_hive_hold_ids_and_times(tmp_path):
    """What polars and Spark read as columns is one here, escapes and all."""
    days = {"a b": "2020-01-01", "a/c": "2020-01-02"}
    for user, day in days.items():
        folder = tmp_path / f"user_id={user.replace('/', '%2F')}" / f"date={day}"
        written(LOG[:3].drop("user_id"), folder / "part-0.parquet")
    data = read_interactions(tmp_path)
    assert data.users.external(data.user_rows) == ["a b"] * 3 + ["a/c"] * 3
    assert data.timestamps.tolist() == [1577836800.0] * 3 + [1577923200.0] * 3
    their = pl.scan_parquet(tmp_path, hive_partitioning=True).collect()
    assert their["user_id"].to_list() == data.users.external(data.user_rows)
    assert "user_id, date: read from the names of folders" in data.notes
    (tmp_path / "user_id=a b").rename(tmp_path / "user_id=__HIVE_DEFAULT_PARTITION__")
    with pytest.raises(InputError, match=r"HIVE.*part-0.parquet: row 1: column 'user_id'.*missing"):
        read_interactions(tmp_path, missing="error")
    data = read_interactions(tmp_path)
    assert data.users.external(data.user_rows) == ["a/c"] * 3


def test_columns_in_the_names_of_folders_of_text_are_not_lost(tmp_path):
    written(LOG.drop("user_id"), tmp_path / "user_id=3" / "part-0.csv")
    with pytest.raises(InputError, match="user_id stands in the names of folders, which are read"):
        read_interactions(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_file_a_day_is_one_log_in_the_order_of_days(tmp_path, suffix):
    for day in range(1, 4):
        written(LOG[day * 10 - 10 : day * 10], tmp_path / f"2020-1-{day * 5}{suffix}")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    assert data.parts is None
    assert data.notes == (f"3 files are read as one log: 2020-1-5{suffix} … 2020-1-15{suffix}",)


def test_one_table_in_a_folder_is_read(tmp_path):
    written(LOG, tmp_path / "interactions.csv")
    (tmp_path / "README.md").write_text("A log.\n")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    assert data.notes == ()


def test_days_without_a_header_are_one_log_where_the_format_is_said(tmp_path):
    for at, lines in enumerate(("1 5 3\n1 6 3\n", "2 5 4\n"), 1):
        (tmp_path / f"day-{at}.log").write_text(lines)
    with pytest.raises(InputError, match="holds no file that a folder is read by"):
        read_interactions(tmp_path)
    data = read_interactions(tmp_path, format="triples")
    assert rows_of(data) == [(1, 5, 3.0), (1, 6, 3.0), (2, 5, 4.0)]


def test_partitions_without_rows_are_passed_over(tmp_path):
    written(LOG, tmp_path / "part-0.csv")
    (tmp_path / "part-1.csv").touch()
    (tmp_path / "part-2.csv").write_text("user_id,item_id,rating\n")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    assert data.notes == ("2 files are read as one log: part-0.csv … part-2.csv",)


def test_parts_of_lines_of_json_are_one_log(tmp_path):
    for at in range(3):
        rows = LOG[at * 10 : at * 10 + 10]
        (tmp_path / f"part-0000{at}.json").write_bytes(rows.write_ndjson().encode())
    assert rows_of(read_interactions(tmp_path)) == EXPECTED


def test_parquet_parts_without_a_suffix_need_their_format(tmp_path):
    for at in range(3):
        rows = LOG[at * 10 : at * 10 + 10]
        written(rows, tmp_path / "x.parquet").rename(tmp_path / f"00000{at}_0")
    with pytest.raises(InputError, match="holds no file that a folder is read by"):
        read_interactions(tmp_path)
    assert rows_of(read_interactions(tmp_path, format="parquet")) == EXPECTED


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Train", "validation", "TEST")])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".arrow"])
def test_a_split_of_one_s_own(tmp_path, suffix, names):
    for name, rows in zip(names, (TRAIN_ROWS, VALID_ROWS, TEST_ROWS), strict=True):
        written(rows, tmp_path / f"{name}{suffix}")
    written(LOG.rename({"user_id": "name"}), tmp_path / f"users{suffix}")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED
    assert data.parts.tolist() == [0] * 20 + [1] * 4 + [2] * 6


def test_parts_of_a_split_may_be_folders_and_packed(tmp_path):
    written(TRAIN_ROWS[:9], tmp_path / "train.parquet" / "part-0.parquet")
    written(TRAIN_ROWS[9:], tmp_path / "train.parquet" / "part-1.parquet")
    (tmp_path / "train.parquet" / "_SUCCESS").touch()
    written(TEST_ROWS, tmp_path / "test.parquet" / "part-0.parquet")
    data = read_interactions(tmp_path)
    assert rows_of(data) == EXPECTED[:20] + EXPECTED[24:]
    assert data.parts.tolist() == [0] * 20 + [2] * 6
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        (packed / f"{name}.csv.xz").write_bytes(lzma.compress(rows.write_csv().encode()))
    assert rows_of(read_interactions(packed)) == rows_of(data)


def test_folders_that_can_be_read_in_two_ways_are_not_read(tmp_path):
    def folder(name, *files):
        for file, frame in files:
            written(frame, tmp_path / name / file)
        return tmp_path / name

    others = LOG.rename({"user_id": "title"})
    cases = [
        (
            folder("unlike", ("a.csv", LOG), ("movies.csv", others)),
            r"not one log: a.csv has the columns 'user_id,item_id,rating', movies.csv has the "
            r"columns 'title,item_id,rating'; name the file",
        ),
        (
            folder("kinds", ("a.csv", LOG), ("b.parquet", LOG)),
            "not one log: a.csv has the suffix '.csv', b.parquet has the suffix '.parquet'",
        ),
        (
            folder("half", ("train.csv", LOG), ("valid.csv", LOG)),
            "holds train.csv, valid.csv, a part of a split, but a split needs a train and a test",
        ),
        (
            folder("two", ("train.csv", LOG), ("train.parquet", LOG), ("test.csv", LOG)),
            "one table for each part of the split, got train.csv and train.parquet",
        ),
        (
            folder("both", ("ratings.csv", LOG), ("train.csv", LOG), ("test.csv", LOG)),
            "can be read in several ways: ratings.csv; or train.csv, test.csv; say which",
        ),
    ]
    twice = folder("twice", ("a.csv", LOG))
    (twice / "a.csv.gz").write_bytes(gzip.compress((twice / "a.csv").read_bytes()))
    cases.append((twice, "a.csv and a.csv.gz may be the same file twice; keep one"))
    for path, message in cases:
        with pytest.raises(InputError, match=message):
            read_interactions(path)


def test_packed_and_plain_days_are_one_log(tmp_path):
    written(LOG[:10], tmp_path / "1.csv")
    for at, (suffix, pack) in enumerate(((".gz", gzip.compress), (".xz", lzma.compress)), 2):
        content = pack(LOG[at * 10 - 10 : at * 10].write_csv().encode())
        (tmp_path / f"{at}.csv{suffix}").write_bytes(content)
    assert rows_of(read_interactions(tmp_path)) == EXPECTED
    (tmp_path / "4.csv.bz2").write_bytes(bz2.compress(b"a,b\n1,2\n"))
    with pytest.raises(InputError, match=r"1.csv has the columns .*, 4.csv.bz2 has the columns"):
        read_interactions(tmp_path)


def test_names_that_no_terminal_should_see_are_written_out(tmp_path):
    for name in (b"day-1\xff.csv", b"day-2\x1b[31m.csv", b"day-3\n.csv"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(CSV)
    data = read_interactions(tmp_path)
    assert rows_of(data) == 3 * EXPECTED
    assert data.notes == (r"3 files are read as one log: day-1\udcff.csv … day-3\n.csv",)


# Packed files


def zipped(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


MAC = {"log.csv": CSV, "__MACOSX/._log.csv": b"x", ".DS_Store": b"x"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv.bz2", bz2.compress(CSV)),
        ("log.csv.xz", lzma.compress(CSV)),
        ("log.csv.gz", gzip.compress(CSV)),
        ("log.csv.zip", zipped({"log.csv": CSV})),
        ("export.zip", zipped(MAC)),
        ("export.zip", zipped({"out/": b"", "../../log.csv": CSV})),
        ("log.csv.zip", zipped({"log.csv.bz2": bz2.compress(CSV)})),
    ],
)
def test_packed_files_are_what_they_hold(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert rows_of(read_interactions(tmp_path / name)) == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_tables_of_arrow_are_read(tmp_path):
    LOG.write_ipc(tmp_path / "log.arrow")
    LOG.write_ipc(tmp_path / "log.feather", compression="zstd")
    for name in ("log.arrow", "log.feather"):
        assert rows_of(read_interactions(tmp_path / name)) == EXPECTED


def test_an_error_names_the_packed_file_and_the_line_within(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "log.csv.bz2"
    path.write_bytes(bz2.compress(b"user,item\n1,2\n3\n"))
    with pytest.raises(InputError) as caught:
        read_interactions(path)
    assert str(caught.value).startswith(f"{path}:3: expected 2 comma-separated fields")
    assert "temporary" not in str(caught.value)
    assert not os.listdir(tmp_path / "temporary")


def saved(array) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", saved(np.eye(2)), "got an array of NumPy; pass its columns to Interactions.from"),
        ("a.csv", pickle.dumps({}), "got a pickle of Python"),
        ("a.csv", b"%PDF-1.7\n", "got a PDF"),
        ("a.db", b"SQLite format 3\x00", "got a SQLite database"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "got an HDF5 file"),
        ("a.tar", tarred("log.csv", CSV), "got a tar archive; unpack it"),
        ("a.tar.gz", gzip.compress(tarred("log.csv", CSV)), "got a tar archive; unpack it"),
        ("a.zip", zipped({"a.csv": CSV, "b.csv": CSV}), r"of one file, got 2 \(a.csv, b.csv\)"),
        ("a.zip", zipped({}), "an archive of one file, got 0"),
        ("a.xlsx", zipped({"xl/workbook.xml": b""}), "got an Excel workbook; save the sheet as"),
        ("a.zip", zipped({"a.csv": CSV})[:-40], "a.zip: cannot be unpacked: it is dam"),
        ("a.csv.bz2", bz2.compress(CSV)[:-9], "a.csv.bz2: cannot be unpacked: "),
        ("a.csv.xz", b"no xz", "a.csv.xz: cannot be unpacked: "),
        ("a.arrow", b"ARROW1\x00\x00", "expected a table of Arrow, and it cannot be read"),
    ],
)
def test_files_that_hold_no_log_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_interactions(tmp_path / name)
