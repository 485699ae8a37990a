"""What a command says of the processes that it is one of, and what is said of those that are lost.

Several real processes are in test_companions.py.
"""

import subprocess
import sys

import pytest

from lightgcn_jax.cli.program import main
from lightgcn_jax.errors import InputError
from lightgcn_jax.processes import agreement, herald
from lightgcn_jax.processes.agreement import check_agreement, gathered, is_first, several
from lightgcn_jax.processes.joining import Wanted, is_loss, wanted_of

FATAL = (
    b"E1130 16:03:45.569221 7376 coordination_service_agent.cc:289] Polled an error\n"
    b"F1130 16:03:45.569267 7376 client.h:80] Terminating process because the JAX distributed "
    b"service detected fatal errors. The following tasks are unhealthy (stopped sending "
    b"heartbeats):\n3\n*** Check failure stack trace: ***\n    @     0x7f000c240634  absl::Log\n"
)
GREETING = b"[Gloo] Rank 0 is connected to 1 peer ranks. Expected number of peers is : 1\n"


def test_one_process_has_nobody_to_agree_with():
    assert not several()
    assert is_first()
    assert gathered({"a": 1}) == [{"a": 1}]
    check_agreement({"a": 1})
    assert not is_loss(RuntimeError("Gloo: connection reset by peer"))


def test_the_flags_of_processes():
    given = {"coordinator": "host:99", "processes": "4", "process-id": "3"}
    assert wanted_of(given) == Wanted("host:99", 4, 3)
    assert wanted_of({"coordinator": "auto"}) == Wanted(None, None, None)
    assert wanted_of({}) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"processes": "2"}, "--coordinator, --process-id is missing"),
        ({"coordinator": "host:1"}, "--processes, --process-id is missing"),
        ({"coordinator": "host"}, "expected HOST:PORT or auto, got 'host'"),
        ({"coordinator": "host:0"}, "expected HOST:PORT or auto"),
        ({"coordinator": ":80"}, "expected HOST:PORT or auto"),
        ({"processes": "0"}, "--processes: expected at least 1, got 0"),
        ({"process-id": "2"}, "--process-id: expected 0 to 1, got 2"),
    ],
)
def test_other_flags_are_refused(given, message):
    if given not in ({"processes": "2"}, {"coordinator": "host:1"}):
        given = {"coordinator": "host:1", "processes": "2", "process-id": "0"} | given
    with pytest.raises(InputError, match=message):
        wanted_of(given)


def test_the_command_refuses_them_before_it_joins(capfd):
    assert main(["train", "--processes", "2"]) == 2
    assert "--coordinator, --process-id is missing" in capfd.readouterr().err
    joined = "--coordinator", "localhost:1", "--processes", "2", "--process-id", "0"
    assert main(["train", *joined, "--device", "0"]) == 2
    assert "expected a platform beside --coordinator" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("everybodys", "message"),
    [
        ([{"l2": 0.1, "dim": 8}, {"l2": 0.1, "dim": 16}], "got dim 8 in process 0 and 16 in proc"),
        ([{"dim": 8}, {"dim": 8}, {"dim": 8, "hidden": 4}], "hidden null in process 0 and 4 in p"),
        ([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}], "a 1 in process 0 and 2 in proc"),
    ],
)
def test_the_first_difference_is_named(everybodys, message, monkeypatch):
    monkeypatch.setattr(agreement, "gathered", lambda _: everybodys)
    with pytest.raises(InputError, match=message):
        check_agreement(everybodys[0])


def test_messages_of_any_length_arrive(monkeypatch):
    """Of the exchange only the transport is another: four processes that say the same."""
    exchanges = []

    def to_all(mine):
        exchanges.append(len(mine))
        return mine[None].repeat(4, axis=0)

    monkeypatch.setattr(agreement.multihost_utils, "process_allgather", to_all)
    for length in (0, 1, 4_087, 4_088, 4_089, 100_000):
        message = (bytes(range(256)) * (length // 256 + 1))[:length]
        assert agreement._exchanged(message) == [message] * 4
    assert exchanges == [4096] * 7 + [131072]


@pytest.mark.parametrize(
    ("text", "fine", "said"),
    [
        (b"", True, ""),
        (GREETING + b"a warning\n", True, ""),
        (GREETING + FATAL, False, "lost (process 3), go on\n"),
        (b"task: 1\n" + FATAL.replace(b"3\n*", b"*"), False, "lost (process 1), go on\n"),
        (GREETING + b"Segmentation fault\n", False, "Segmentation fault\n"),
        (GREETING, False, ""),
    ],
)
def test_one_line_in_the_place_of_a_page(text, fine, said):
    assert herald.said(text, fine, "lost{which}, go on") == said


@pytest.mark.parametrize("fine", [True, False])
def test_the_herald_keeps_what_it_reads_until_the_end(fine):
    text = GREETING + b"half a line\0lost{which}, go on\n" + FATAL + (b"\0fine\n" if fine else b"")
    command = [sys.executable, "-I", "-S", herald.__file__]
    ended = subprocess.run(command, input=text, capture_output=True, check=True)
    assert ended.stderr == (b"" if fine else b"lost (process 3), go on\n")
    assert not ended.stdout
