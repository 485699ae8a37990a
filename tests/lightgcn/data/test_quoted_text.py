"""One dialect of CSV: what Python's parser in its strict mode reads is read in the same way."""

import csv
import io
import random

import pytest

from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.errors import InputError

HEADERS = ("user", "item", "title")
FIELDS = (
    *("plain", "", "two words", '12" lp', 'size 9"', 'the "blue" one', 'x "weird al', "a, b"),
    *('"quoted"', '""', '"a, b"', '"a ""b"" c"', '"two\nlines"', '"two\r\nlines"', '"weird al'),
    *('"open', '"closed" then more', "back\\slash", '"back \\" slash"', "'", "é", '" lead"'),
    *(' "blank"', '"""x"""', "a\rb"),
)


def generated(seed: int) -> str:
    """A CSV of a dialect that a machine, a person or an accident could have written."""
    rng = random.Random(seed)
    order = rng.sample(range(3), 3)
    odd = rng.choice((0.0, 0.02, 0.3))
    rows = []
    for row in range(rng.choice((3, 20, 60))):
        title = rng.choice(FIELDS) if rng.random() < max(odd, 0.05) else "plain"
        cells = [f"u{row % 7}", f"i{row}", title]
        if rng.random() < odd / 4:
            cells[rng.randrange(2)] = rng.choice(FIELDS)
        if rng.random() < odd / 6:
            cells.insert(rng.randrange(4), rng.choice(FIELDS))
        rows.append([cells[at] if at < len(cells) else "" for at in order] + cells[3:])
    if rng.random() < 0.3:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n", quoting=rng.choice((0, 1, 2)))
        writer.writerows([[HEADERS[at] for at in order], *rows])
        text = buffer.getvalue()
    else:
        text = "\n".join(",".join(row) for row in [[HEADERS[at] for at in order], *rows]) + "\n"
    if rng.random() < 0.2:
        text = text.replace("\n", "\n\n", 2)
    return (
        text.replace("\n", "\r\n") if rng.random() < 0.2 else text.rstrip("\n" * rng.randrange(2))
    )


def strictly_read(text: str) -> list[tuple[str, str]] | None:
    """Pairs by Python's parser, None where it refuses the text or a row has another width."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    except csv.Error:
        return None
    header = [name.strip() for name in rows[0]]
    if any(len(row) != len(header) for row in rows):
        return None
    user, item = header.index("user"), header.index("item")
    return [(row[user].strip(), row[item].strip()) for row in rows[1:]]


def compared(tmp_path, seed: int) -> str:
    text = generated(seed)
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8", newline="")
    expected = strictly_read(text)
    try:
        data = read_interactions(path, missing="error")
    except InputError as error:
        # What Python reads is refused for an id alone, or for a carriage return within a line.
        message = str(error)
        assert message.startswith(f"{path}:"), message
        assert message.removeprefix(f"{path}:").partition(":")[0].isdigit(), message
        if expected is not None:
            assert "expected an id" in message or "carriage return" in message, (message, text)
        return "refused"
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    assert list(zip(map(str, users), map(str, items), strict=True)) == expected, text
    return "read"


def test_generated_files_are_read_as_by_pythons_strict_parser_or_refused(tmp_path):
    outcomes = [compared(tmp_path, seed) for seed in range(150)]
    assert min(map(outcomes.count, ("read", "refused"))) > 35


@pytest.mark.slow
def test_a_thousand_files_are_read_as_by_pythons_strict_parser_or_refused(tmp_path):
    for seed in range(150, 1_400):
        compared(tmp_path, seed)


def pairs(path, **options):
    data = read_interactions(path, **options)
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return list(zip(users, items, strict=True))


def test_one_quotation_mark_does_not_let_a_wide_row_through(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user,title,item\n1,"A (1995)",10\n2,Tiger, Dragon,11\n3,B,12\n')
    with pytest.raises(InputError, match=r"log.csv:3: expected 3 .* got 4: '2,Tiger, Dragon,11'"):
        read_interactions(path)
    path.write_text('user,title,item\n1,"A (1995)",10\n2,11\n')
    with pytest.raises(InputError, match=r"log.csv:3: expected 3 .* got 2: '2,11'"):
        read_interactions(path)


def test_lone_marks_within_a_field_are_text_and_at_its_start_are_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user,title,item\n1,TV 42",5\n2,the "big" one,6\n')
    assert pairs(path) == [(1, 5), (2, 6)]
    path.write_text('user,title,item\n0,x,1\n1,"Foo,5\n2,Bar,4\n3,"Baz,6\n4,Qux,7\n')
    with pytest.raises(InputError, match=r"log.csv:3: .* behind a closing quotation mark, got"):
        read_interactions(path)
    # The marks are text if the user says so; else the two rows may be left out.
    assert len(pairs(path, quoting="none")) == 5
    assert pairs(path, skip_bad_rows=True) == [(0, 1), (2, 4), (4, 7)]


def test_marks_behind_backslashes_are_read_where_the_user_says_so(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user;title;item\n1;"the \\"big\\"; one";5\n2;x;6\n')
    with pytest.raises(InputError, match=r"log.csv:2: .* --quoting backslash reads"):
        read_interactions(path)
    assert pairs(path, quoting="backslash") == [(1, 5), (2, 6)]


def test_tables_of_r_are_read_and_ids_in_marks_are_never_text_in_silence(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text('"user"\t"item"\n"a"\t"1"\n"b"\t"2"\n')
    assert pairs(path) == [("a", 1), ("b", 2)]
    path.write_text('user\titem\tname\n"a"\t"1"\t"x"\n')  # the header may have none
    assert pairs(path) == [("a", 1)]
    path.write_text('user\titem\tname\na\t1\t"Heroes" (live)\nb\t2\t"x\n')
    assert pairs(path) == [("a", 1), ("b", 2)]
    path.write_text('user\titem\na\t1\n"b"\t2\n')
    with pytest.raises(InputError, match=r"log.tsv:3: .* in two ways: .* quoting csv, .*none"):
        read_interactions(path)
    assert pairs(path, quoting="none") == [("a", 1), ('"b"', 2)]
    assert pairs(path, quoting="csv") == [("a", 1), ("b", 2)]
    path = tmp_path / "log.csv"
    path.write_text('user, item\n"a", "b"\n')
    with pytest.raises(InputError, match=r"log.csv:2: column 'item': .* blanks before a quot"):
        read_interactions(path)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|", " ", "^", "]", "\\", "-"])
def test_fields_that_are_enclosed_as_a_whole_are_read_alike(tmp_path, mark):
    """These are split without the parser: the same rows with one mark more go through it."""
    rows = [(f"u{row}", f"i.{row}", row % 5) for row in range(40)]
    lines: list[tuple] = [("user", "item", "rating")]
    lines += [(f'"{user}"', f'"{item}"', f'"{n}"' if n else 0) for user, item, n in rows]
    text = "\r\n".join(mark.join(map(str, line)) for line in lines) + "\r\n\r\n"
    path = tmp_path / "log.csv"
    path.write_text(text, newline="")
    options = {"format": "csv", "separator": mark, "quoting": "csv", "rating_column": "rating"}
    plain = read_interactions(path, **options)
    path.write_text(text + f'"u""x"{mark}"i.1"{mark}"3"\n', newline="")
    parsed = read_interactions(path, **options)
    assert pairs(path, **options)[:-1] == [(user, item) for user, item, _ in rows]
    assert plain.ratings is not None
    assert parsed.ratings is not None
    assert parsed.ratings.tolist() == [*plain.ratings.tolist(), 3]
    path.write_text(text + f'"u1"{mark}"i.1"\n', newline="")
    with pytest.raises(InputError, match=r"log.csv:43: expected 3 .*, got 2: 'u1.+i\.1'"):
        read_interactions(path, **options)


def test_the_first_line_of_a_record_is_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user,title,item\n1,"two\n\nlines",5\n2,"three\n\n\nlines",\n')
    with pytest.raises(InputError, match=r"log.csv:5: column 'item': expected an id, got an empty"):
        read_interactions(path, missing="error")
    path.write_text('"user","ti\ntle","item"\n1,"two\nlines",5\n2,x\n')
    with pytest.raises(InputError, match=r"log.csv:5: expected 3"):
        read_interactions(path)
