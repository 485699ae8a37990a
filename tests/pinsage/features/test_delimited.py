"""Delimited text beside Python's own strict reader, and what is refused."""

import csv
import gzip
import io

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.features.delimited import read_delimited


@pytest.fixture
def read(tmp_path):
    """The rows of a text, None where a field is blank, and whether quotation marks enclose."""

    def reading(text, separator=",", quoting="auto"):
        path = tmp_path / ("a.csv" if separator == "," else "a.tsv")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = read_delimited(path, separator, quoting)
        return found.cells.columns, found.cells.rows(), found.lines.tolist(), found.quoted

    return reading


def test_rows_and_the_lines_that_they_begin_on(read):
    text = '\ufeffid, name ,n\r\n\n1,"a, ""b""\nc",2\n\n 2 ,, \r\n'
    names, rows, lines, quoted = read(text)
    assert names == ["id", "name", "n"]
    assert rows == [("1", 'a, "b"\nc', "2"), (" 2 ", None, None)]
    assert (lines, quoted) == ([3, 6], True)
    names, rows, lines, quoted = read("id\tn\n\n1\t2\r\n\t\n3\t4", "\t")
    assert rows == [("1", "2"), (None, None), ("3", "4")]
    assert (lines, quoted) == ([3, 4, 5], None)
    assert read("id\r1\r2\r")[1] == [("1",), ("2",)]


def test_a_quotation_mark_within_a_field_is_text(read):
    rows = [("1", '12" vinyl'), ("2", 'a "b" c'), ("3", "quoted")]
    assert read('id,t\n1,12" vinyl\n2,a "b" c\n3,"quoted"\n')[1] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,t\n1,"a" b\n', "2: expected ',' or the end of the line behind a closing quotation"),
        ('id,t\n1,x\n2,"weird al\n3,y\n', "3: a quotation mark opens a field here, and none"),
        ('id,t\n1,"a,5\n2,b,4\n3,"c,6\n', "2: expected ',' or the end of the line behind a"),
        ('id,t\n1, "a"\n', "2: expected a quoted field right after the separator, got ' \"a\"'"),
        ('id,"t\n', "1: a quotation mark opens a field here, and none closes it"),
    ],
)
def test_a_quoted_field_that_does_not_end_at_a_separator_is_named(text, message, read):
    with pytest.raises(InputError, match=f"a.csv:{message}"):
        read(text)


@pytest.mark.parametrize("mark", ["", '"'])
@pytest.mark.parametrize(
    ("row", "got"), [("1,2", r"2: \['1', '2'\]"), ("1", "1: "), ("1,2,3,4", "4: ")]
)
def test_a_row_of_another_width_is_named_and_never_shifted(mark, row, got, read):
    text = f"id,a,{mark}b{mark}\n7,8,9\n\n{row}\n"
    with pytest.raises(InputError, match=rf"a.csv:4: expected 3 fields \(id, a, b\), got {got}"):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv: expected features, but the file is empty"),
        (" \n\n", "but the file is empty"),
        ("id,a,a\n", "a.csv:1: expected each column once, got 'a' twice"),
        ("id,,a\n", "a.csv:1: expected a name for column 2, got ''"),
        ("id;a\n1;2\n", r"a.csv:1: expected comma-separated .* 'id;a'; fields that a semicolon"),
        (b"id,a\n1,\xff\n", r"a.csv:2: .* expected UTF-8 text, got the byte b'\\xff'"),
        ("id,a\n1,2\n".encode("utf-16-le"), "a.csv:1: expected text, got a NUL byte; if it is UTF"),
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "expected features, got a Git LFS pointer",
        ),
    ],
)
def test_a_file_that_is_no_table_is_named(text, message, read):
    with pytest.raises(InputError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("text", "quoted", "rows"),
    [
        # A lone mark fits one reading alone.
        ('id\tt\n1\t"Heroes" (live)\n2\t"x\n', False, [("1", '"Heroes" (live)'), ("2", '"x')]),
        # A separator within marks fits the other one alone.
        ('id\tt\n1\t"a\tb"\n2\tc\n', True, [("1", "a\tb"), ("2", "c")]),
        # R encloses every string, the header's too; pandas what holds a mark.
        ('"id"\t"t"\n"1"\t"a"\n"2"\tNA\n', True, [("1", "a"), ("2", "NA")]),
        ('id\tt\n1\t"a"\n2\t"b"\n', True, [("1", "a"), ("2", "b")]),
        ('id\tt\n1\t"12"" vinyl"\n2\tb\n', True, [("1", '12" vinyl'), ("2", "b")]),
    ],
)
def test_marks_in_tab_separated_files_are_what_fits(text, quoted, rows, read):
    _, found, _, how = read(text, "\t")
    assert (found, how) == (rows, quoted)


def test_marks_that_can_be_read_in_two_ways_are_refused(read):
    text = 'id\tt\n1\tThe Wall\n2\t"Heroes"\n'
    with pytest.raises(InputError, match=r"""a.tsv:3: column 't': '"Heroes"' can be read in two"""):
        read(text, "\t")
    assert read(text, "\t", "none")[1][1] == ("2", '"Heroes"')
    assert read(text, "\t", "csv")[1][1] == ("2", "Heroes")
    with pytest.raises(InputError, match="quoting: expected auto or csv or none, got 'no'"):
        read(text, "\t", "no")


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-16", "auto"), ("latin-1", "latin-1"), ("utf-8-sig", "auto")]
)
def test_text_in_another_encoding(encoding, said, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("id,t\n1,é\n".encode(encoding)))
    assert read_delimited(tmp_path / "a.csv.gz", ",", "auto", said).cells.rows() == [("1", "é")]


def random_text(rng):
    """A table of few rows, of signs among which separators, marks and line breaks are many."""
    signs = [*'ab1",\n', '""', '","', "\r\n", " ", "é"]
    width = int(rng.integers(1, 4))
    header = ",".join("wxyz"[:width]) + "\n"
    if rng.random() < 0.5:
        return header + "".join(rng.choice(signs, rng.integers(0, 40)))
    rows = []
    for _ in range(rng.integers(0, 6)):
        cells = ["".join(rng.choice(signs, rng.integers(0, 5))) for _ in range(width)]
        quoted = [f'"{cell}"' if rng.random() < 0.5 else cell for cell in cells]
        rows.append(",".join(quoted) + "\n")
    return header + "".join(rows)


def as_python_reads_it(text):
    """The filled rows below the header, or None where Python's strict reader refuses them."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return None
    return [row for row in rows[1:] if len(row) > 1 or "".join(row).strip()]


def agree_with_python(read, seeds):
    agreed = 0
    for seed in seeds:
        text = random_text(np.random.default_rng(seed))
        expected = as_python_reads_it(text)
        try:
            names, rows, _, _ = read(text)
        except InputError:
            continue
        assert expected is not None, text
        assert all(len(row) == len(names) for row in expected), text
        assert [[cell or "" for cell in row] for row in rows] == [
            [cell if cell.strip() else "" for cell in row] for row in expected
        ], text
        agreed += 1
    assert agreed > len(seeds) / 10


def test_what_is_accepted_is_what_python_reads(read):
    agree_with_python(read, range(400))


@pytest.mark.slow
def test_what_is_accepted_is_what_python_reads_often(read):
    agree_with_python(read, range(1_000, 4_000))
