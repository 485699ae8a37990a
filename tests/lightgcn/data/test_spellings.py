"""Files whose ids are not the same are not joined in silence."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.spellings import check_fit, twice_written
from lightgcn_jax.data.splits import given_split
from lightgcn_jax.errors import InputError

quick = settings(deadline=None)
SPELLINGS = {
    "17.0": lambda at: f"{at}.0",
    "00017": lambda at: f"{at:05d}",
    "+17": lambda at: f"+{at}",
    "'17'": lambda at: f"'{at}'",
    "user": lambda at: f"user-{at}",
}


def split_of(tmp_path, spell, suffix=".csv", part="test"):
    """20 users with 3 of 10 items each; the withheld file writes users in another way."""
    tmp_path.mkdir(exist_ok=True)
    train = [(user, (user + step) % 10) for user in range(1, 21) for step in range(3)]
    test = [(user, (user + 5) % 10) for user in range(1, 21)]
    frames = {
        "train": pl.DataFrame(train, schema=["user", "item"], orient="row"),
        "test": pl.DataFrame(test, schema=["user", "item"], orient="row"),
    }
    frames["valid"] = frames["test"].head(12)
    spelled = pl.Series([spell(user) for user in frames[part]["user"]])
    frames[part] = frames[part].with_columns(user=spelled)
    for name, frame in frames.items():
        getattr(frame, f"write_{suffix[1:]}")(tmp_path / f"{name}{suffix}")
    return tmp_path


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_part_of_other_ids_stops_with_both_spellings(tmp_path, spelling, part, suffix):
    path = split_of(tmp_path, SPELLINGS[spelling], suffix, part)
    count = 12 if part == "valid" else 20
    with pytest.raises(InputError) as caught:
        read_interactions(path)
    said = str(caught.value)
    assert f"{count} of {count} users of {part}{suffix} are unknown to train{suffix}: " in said
    assert f"{SPELLINGS[spelling](1)!r} in {part}{suffix}, 1 in train{suffix}; " in said
    assert "--unknown-ids allow" in said
    data = read_interactions(path, unknown_ids="allow")
    assert data.num_users == 20 + count
    assert any("are unknown to train" in note for note in data.notes)
    assert any(note.startswith("ids of users are integers in ") for note in data.notes)


def test_blanks_around_an_id_are_no_other_spelling(tmp_path):
    assert read_interactions(split_of(tmp_path, lambda at: f" {at} ")).notes == ()


def test_integers_and_their_decimal_forms_are_the_same_ids(tmp_path):
    data = read_interactions(split_of(tmp_path, str, ".parquet"))
    assert data.users.ids.to_list() == list(range(1, 21))
    assert data.notes == ()
    split = given_split(data)
    assert len(split.valid) + len(split.test) == 20


def test_a_smaller_share_is_a_note(tmp_path):
    """A quarter of the users is written otherwise, another quarter is new."""
    path = split_of(tmp_path, lambda at: f"{at}.0" if at <= 5 else str(at + 15 * (at > 15)))
    notes = read_interactions(path).notes
    assert notes[0] == (
        "ids of users are integers in train.csv (1) and strings in test.csv ('1.0'); all are taken "
        "as strings"
    )
    assert notes[1] == (
        "10 of 20 users of test.csv are unknown to train.csv; 5 of them are known but for the way "
        "they are written: '1.0' in test.csv, 1 in train.csv"
    )
    assert notes[2].startswith("10 users differ only in the way they are written, as '1' and '1.0'")


@quick
@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1))
def test_more_than_half_is_most(known, asked):
    unknown = asked - known
    given = (pl.Series(sorted(known)), pl.Series(sorted(asked)), "here", "there")
    if len(unknown) > len(asked) / 2:
        with pytest.raises(InputError, match=f"{len(unknown)} of {len(asked)} items of there"):
            check_fit("items", *given)
    else:
        notes = check_fit("items", *given)
        assert bool(notes) == bool(unknown)
    assert bool(check_fit("items", *given, unknown_ids="allow")) == bool(unknown)


def test_case_and_quotation_marks_are_seen_as_spellings():
    for theirs, ours in (("USER-A", "user-a"), ('"b7"', "b7"), ("\ta", "A")):
        with pytest.raises(InputError) as caught:
            check_fit("users", pl.Series(["x", ours]), pl.Series(["new", theirs]), "old", "other")
        assert f"{theirs!r} in other, {ours!r} in old" in str(caught.value)


def test_nothing_is_compared_with_nothing():
    nothing, some = pl.Series([], dtype=pl.Int64), pl.Series([1])
    assert check_fit("users", nothing, some, "a", "b") == ()
    assert check_fit("users", some, nothing, "a", "b") == ()
    with pytest.raises(InputError, match="unknown_ids: expected refuse or allow, got 'ignore'"):
        check_fit("users", some, some, "a", "b", "ignore")


def test_ids_of_one_log_that_are_written_twice_are_counted():
    assert twice_written("items", pl.Series([1, 17])) == ()
    assert twice_written("items", pl.Series(["a", "A", "b"])) == ()
    (note,) = twice_written("items", pl.Series(["b", "017", "17", "17.0", "2", "2."]))
    assert note.startswith("5 items differ only in the way they are written, as '017' and '17'")


def test_days_that_write_ids_in_two_ways_are_noted(tmp_path):
    (tmp_path / "day-1.csv").write_text("user,item\n1,5\n2,6\n")
    (tmp_path / "day-2.csv").write_text("user,item\n1.0,5\n3.0,7\n")
    notes = read_interactions(tmp_path).notes
    assert any(note.startswith("ids of users are integers in day-1.csv (1)") for note in notes)
    assert any("2 users differ only in the way they are written" in note for note in notes)
