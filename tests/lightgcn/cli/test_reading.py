"""The command line says how files are read, remembers it, and shows what it complains of."""

import json
import shlex

import pytest

from lightgcn_jax.cli.program import main
from lightgcn_jax.cli.source import FileFormat, Source


def described(capsys, path, *flags):
    status = main(["data", "describe", str(path), *flags])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_printed_flags_read_the_file_again(tmp_path, capsys):
    path = tmp_path / "log file.csv"
    path.write_text('user;asin;parent asin;date\n1;"2";3;x\n2;3;4;y\n')
    status, out, err = described(capsys, path)
    assert status == 0
    said, *notes = err.splitlines()
    assert said.startswith("log file.csv: read as --format csv --separator semicolon --header yes ")
    assert said.endswith(" --user-ids integers --item-ids integers (guessed: all of it)")
    assert [note.partition(": ")[0] for note in notes] == ["note"] * 2
    flags = shlex.split(said.partition("read as ")[2].partition(" (guessed")[0])
    again = described(capsys, path, *flags)
    assert again[:2] == (0, out)
    assert again[2].splitlines() == [said.removesuffix(" (guessed: all of it)")]


def test_a_run_remembers_how_its_files_were_read(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text("user,item\n1,2\n2,3\n")
    source = Source(data=path, file_format=FileFormat(separator="comma"))
    record = json.loads(json.dumps(source.record(source.interactions())))
    (reading,) = record["readings"]
    assert reading["read_as"]["separator"] == "comma"
    assert "separator" not in reading["guessed"]
    assert reading["read_as"]["item_ids"] == "integers"
    assert capsys.readouterr().err.startswith("log.csv: read as ")
    source.interactions(quiet=True)
    assert capsys.readouterr().err == ""
    assert "readings" not in Source().record()


@pytest.mark.parametrize(
    ("line", "shown"),
    [("1   2  3", "'1   2  3'"), ("a\x1b[31m,x", r"'a\x1b[31m'"), ("1\t2,3,4", r"'1\t2,3,4'")],
)
def test_messages_show_what_was_found(tmp_path, capsys, line, shown):
    path = tmp_path / "log.csv"
    path.write_text(f"user,item\n{line}\n")
    status, out, err = described(capsys, path)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert shown in err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    "flag", ["--header=maybe", "--quoting=odd", "--time-unit=weeks", "--null-ids=x"]
)
def test_flags_of_other_values_are_refused(tmp_path, capsys, flag):
    path = tmp_path / "log.csv"
    path.write_text("user,item\n1,2\n")
    assert described(capsys, path, *flag.split("="))[0] == 2
