"""Downloads against a local server that misbehaves in every way that real ones do."""

import contextlib
import email.utils
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lightgcn_jax.data.download import _OPENER, _Redirects, download
from lightgcn_jax.data.unpacking import extract
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked
from tests.mutations import refused

CONTENT = np.random.default_rng(0).bytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MODIFIED = 1_600_000_000


class Server(ThreadingHTTPServer):
    """Serves `contents`, cut, altered or refused as its fields say, and keeps the requests."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = [CONTENT]  # one a request, the last for ever
        self.etags = ['"one"']  # the same
        self.modified: int | None = None
        self.cut_after: int | None = None  # bytes of a response's body
        self.cuts = 0  # how many responses are cut
        self.statuses: list[int] = []  # answered first, one a request
        self.alterations = 0  # how many responses carry a wrong byte
        self.honours_ranges = True
        self.honours_if_range = True
        self.stated_extra = 0  # added to Content-Length
        self.states_length = True
        self.pause_after: int | None = None  # bytes of a body, until ``paused`` is set
        self.paused = threading.Event()
        self.passes_on_to: str | None = None
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data/file.bin"

    def offsets(self) -> list[int]:
        ranges = [headers.get("Range", "bytes=0-") for headers in self.requests]
        return [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.passes_on_to:
            self.send_response(302)
            self.send_header("Location", server.passes_on_to)
            self.end_headers()
            return
        if server.statuses:
            status = server.statuses.pop(0)
            self.send_error(status)
            return
        content, etag = (
            values.pop(0) if len(values) > 1 else values[0]
            for values in (server.contents, server.etags)
        )
        modified = server.modified and email.utils.formatdate(server.modified, usegmt=True)
        start, wanted = 0, self.headers.get("Range")
        condition = self.headers.get("If-Range")
        unchanged = not server.honours_if_range or condition in (None, etag, modified)
        if wanted and server.honours_ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        total = len(content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = bytearray(content[start:])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.states_length:
            self.send_header("Content-Length", str(len(body) + server.stated_extra))
        if etag:
            self.send_header("ETag", etag)
        if modified:
            self.send_header("Last-Modified", modified)
        self.end_headers()
        if server.alterations:
            server.alterations -= 1
            body[len(body) // 2] ^= 1
        if server.cut_after is not None and server.cuts:
            server.cuts -= 1
            del body[server.cut_after :]
        if server.pause_after:
            self.wfile.write(body[: server.pause_after])
            server.paused.wait(60)
            del body[: server.pause_after or len(body)]
        with contextlib.suppress(OSError):  # nobody may be there any more
            self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join(timeout=10)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.bin"


def fetch(server: Server, target: Path, **options) -> Path:
    return download(
        server.url,
        target,
        **({"wait_seconds": 0.0, "timeout_seconds": 5.0, "retries": 3} | options),
    )


def assert_whole(target: Path) -> None:
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == [target.name]


def test_plain_download_is_whole_and_leaves_nothing_else(server, target):
    assert fetch(server, target, size=len(CONTENT), sha256=DIGEST.upper()) == target
    assert_whole(target)
    assert len(server.requests) == 1
    target.write_bytes(b"old")
    fetch(server, target)
    assert_whole(target)


def test_its_bytes_are_on_the_disk_before_it_has_its_name(server, target, monkeypatch):
    flushed, fsync = [], os.fsync

    def noted(descriptor):
        flushed.append((os.fstat(descriptor).st_ino, target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    fetch(server, target)
    inodes = [target.stat().st_ino, target.parent.stat().st_ino]
    assert flushed == [*zip(inodes, (False, True), strict=True)]


def test_cut_connections_are_continued_where_they_stopped(server, target):
    server.cut_after, server.cuts = 30_000, 4
    fetch(server, target, retries=0)  # every attempt brings bytes, so none counts
    assert_whole(target)
    assert server.offsets() == [0, 30_000, 60_000, 90_000, 120_000]
    assert {headers.get("If-Range") for headers in server.requests[1:]} == {'"one"'}


def test_weak_etag_is_no_condition_but_still_compared(server, target):
    server.etags, server.cut_after, server.cuts = ['W/"one"'], 30_000, 1
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [0, 30_000]
    assert "If-Range" not in server.requests[1]


def test_server_that_ignores_ranges_is_read_from_the_start(server, target):
    server.honours_ranges, server.cut_after, server.cuts = False, 30_000, 2
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [0, 30_000, 30_000]


def test_server_that_always_cuts_and_ignores_ranges_ends_in_an_error(server, target):
    server.honours_ranges, server.cut_after, server.cuts = False, 30_000, 1000
    with pytest.raises(InputError, match=r"file\.bin: the connection ended at 30,000 of 200,000"):
        fetch(server, target)
    assert len(server.requests) == 5  # the first, then retries and the one that gives up
    assert os.listdir(target.parent) == ["file.bin.part"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_changed_file_is_never_spliced(server, target, honours_if_range):
    new = bytes(reversed(CONTENT))
    server.contents, server.etags = [CONTENT, new], ['"old"', '"new"']
    server.cut_after, server.cuts = 500, 1
    server.honours_if_range = honours_if_range
    fetch(server, target)
    assert target.read_bytes() == new
    assert server.offsets() == ([0, 500] if honours_if_range else [0, 500, 0])


def test_corruption_is_fetched_again_once(server, target):
    server.alterations = 1
    fetch(server, target, sha256=DIGEST)
    assert_whole(target)
    assert server.offsets() == [0, 0]


def test_lasting_corruption_is_an_error_without_leftovers(server, target):
    server.alterations = 1000
    with pytest.raises(InputError, match=f"{server.url}: expected SHA-256 {DIGEST}, got .* twice"):
        fetch(server, target, sha256=DIGEST)
    assert len(server.requests) == 2
    assert os.listdir(target.parent) == []


def test_missing_file_is_an_error_at_once(server, target):
    server.statuses = [404] * 10
    with pytest.raises(InputError, match=rf"{server.url}: the server answered 404 Not Found"):
        fetch(server, target)
    assert len(server.requests) == 1
    assert os.listdir(target.parent) == []


def test_overloaded_server_is_asked_again(server, target):
    server.statuses = [503, 429]
    fetch(server, target)
    assert_whole(target)
    assert len(server.requests) == 3


def test_waits_double_and_start_anew_after_progress(server, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("lightgcn_jax.data.download.time.sleep", waits.append)
    server.statuses, server.cut_after, server.cuts = [503, 503, 503], 1000, 1
    fetch(server, target, wait_seconds=0.5)
    assert waits == [1.0, 2.0, 4.0, 0.5]


def test_refused_connection_names_the_address_and_the_place(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/file.bin"
    with pytest.raises(InputError, match=f"{url}: cannot reach the server.*after 3 attempts") as e:
        download(url, target, retries=2, wait_seconds=0.0)
    assert str(target) in str(e.value)
    assert os.listdir(target.parent) == []


def test_silent_server_times_out(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/file.bin"
        with pytest.raises(InputError, match="timed out"):
            download(url, target, retries=1, wait_seconds=0.0, timeout_seconds=0.1)


def test_no_network_is_noticed_soon(target, monkeypatch):
    """The clock goes by the waits and by the time-outs that the attempts were given."""
    clock = [0.0]

    def silent(*_, timeout):
        clock[0] += timeout
        raise urllib.error.URLError("timed out")

    monkeypatch.setattr(_OPENER, "open", silent)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(InputError, match=r"cannot reach the server .* after 2 attempts"):
        download("http://127.0.0.1/file.bin", target)
    assert 6 < clock[0] <= 12


def test_off_a_terminal_a_line_tells_how_far_it_is(server, target, capsys):
    fetch(server, target)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["file.bin: asking the server", "file.bin: 0.0 of 0.2 MB"]
    assert said[-1] == "file.bin: 0.2 of 0.2 MB"
    assert len(said) <= 13
    fetch(server, target, progress=False)
    assert capsys.readouterr().err == ""


def test_stated_length_too_long_is_survived(server, target):
    server.stated_extra = 10
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [0, len(CONTENT)]


def test_unexpected_size_is_an_error(server, target):
    with pytest.raises(InputError, match=r"expected 5 bytes, the server offers 200,000"):
        fetch(server, target, size=5)
    assert os.listdir(target.parent) == []


def test_size_catches_a_cut_that_the_server_did_not_state(server, target):
    server.states_length, server.cut_after, server.cuts = False, 30_000, 2
    fetch(server, target, size=len(CONTENT))
    assert_whole(target)
    server.contents = [CONTENT + b"more"]
    with pytest.raises(InputError, match=r"expected 200,000 bytes, the server sent more"):
        fetch(server, target, size=len(CONTENT))


def test_later_process_continues_by_the_files_time(server, target, monkeypatch):
    server.modified, server.etags = MODIFIED, [""]
    server.cut_after, server.cuts = 30_000, 1

    def vanish(_seconds: float) -> None:
        server.statuses = [404]

    with monkeypatch.context() as patch:
        patch.setattr("lightgcn_jax.data.download.time.sleep", vanish)
        with pytest.raises(InputError, match="404"):
            fetch(server, target)
    part = target.with_name("file.bin.part")
    assert part.stat().st_size == 30_000
    assert int(part.stat().st_mtime) == MODIFIED
    server.requests = []
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [30_000]


@pytest.mark.parametrize("partial_time", [MODIFIED - 1, 0])
@pytest.mark.parametrize("honours_if_range", [True, False])
def test_partial_file_of_unknown_origin_is_not_continued(
    server, target, partial_time, honours_if_range
):
    server.modified, server.honours_if_range = MODIFIED, honours_if_range
    target.parent.mkdir()
    part = target.with_name("file.bin.part")
    part.write_bytes(b"something else")
    os.utime(part, (partial_time, partial_time))
    fetch(server, target)
    assert_whole(target)


def test_what_a_kill_left_is_continued(server, target):
    server.modified, server.etags = MODIFIED, [""]
    server.pause_after = 150_000
    script = (
        "import sys; from pathlib import Path; from lightgcn_jax.data.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]), progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, server.url, target])
    part = target.with_name("file.bin.part")
    try:
        while not (part.exists() and part.stat().st_size == 150_000):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        server.pause_after = None
        server.paused.set()
    server.requests = []
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [150_000]


@pytest.mark.parametrize("states_length", [True, False])
def test_an_answer_without_end_is_cut_off(server, target, states_length):
    server.states_length = states_length
    with pytest.raises(InputError, match=r"expected at most 100,000 bytes, the server (sent|offe)"):
        fetch(server, target, most=100_000)
    assert not target.exists()
    assert sum(one.stat().st_size for one in target.parent.iterdir()) <= 100_000
    fetch(server, target, size=len(CONTENT), most=100_000)
    assert_whole(target)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x"])
def test_no_server_passes_on_to_another_scheme(server, target, address):
    server.passes_on_to = address
    with pytest.raises(InputError, match=r"127\.0\.0\.1"):
        fetch(server, target)
    assert not target.exists()
    asked = urllib.request.Request("https://127.0.0.1/x")
    with pytest.raises(InputError, match=r"passes on to http://127\.0\.0\.1/y, which is refused"):
        _Redirects().redirect_request(asked, None, 302, "", {}, "http://127.0.0.1/y")


def test_interruption_by_the_user_leaves_a_partial_file_to_continue(server, target, monkeypatch):
    server.modified = MODIFIED

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        server.cut_after, server.cuts = 30_000, 1
        patch.setattr("lightgcn_jax.data.download.time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(server, target)
    assert os.listdir(target.parent) == ["file.bin.part"]
    fetch(server, target)
    assert_whole(target)
    assert server.offsets() == [0, 30_000]


def test_full_disk_says_so(server, target, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("lightgcn_jax.data.download._append", full)
    with pytest.raises(InputError, match=r"file\.bin: cannot write somewhere: No space left"):
        fetch(server, target)
    assert not target.exists()


def test_two_processes_do_not_write_one_file(server, target):
    target.parent.mkdir()
    with (
        locked(target.with_name(".file.bin.lock"), "", leave=False),
        pytest.raises(InputError, match=r"another process is writing .*file\.bin\.part; wait"),
    ):
        fetch(server, target)
    fetch(server, target)
    assert_whole(target)


def test_the_lock_is_held_until_the_file_has_its_name(server, target, monkeypatch):
    """Else another process takes the whole .part, and renaming it fails as on a full disk."""
    replace, met = os.replace, []

    def slow(source, destination):
        monkeypatch.setattr("lightgcn_jax.data.download.os.replace", replace)
        with pytest.raises(InputError, match="another process is writing") as error:
            fetch(server, target)
        met.append(error)
        replace(source, destination)

    monkeypatch.setattr("lightgcn_jax.data.download.os.replace", slow)
    fetch(server, target)
    assert met
    assert_whole(target)
    assert os.listdir(target.parent) == ["file.bin"]


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://127.0.0.1/x", "data.txt"])
def test_only_web_addresses_are_taken(url, target):
    with pytest.raises(InputError, match="can only download from http"):
        download(url, target)


def test_invalid_address_is_named(target):
    with pytest.raises(InputError, match="not a valid address"):
        download("http://127.0.0.1:port/x", target, retries=0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as contents:
        contents.writestr("ml/ratings.dat", b"1::2::3::4\n")
        contents.writestr("ml/zeros", bytes(1 << 20))
        contents.writestr("../evil", b"out of the folder")
        contents.writestr("/absolute", b"anywhere")
    return path


def test_extraction_writes_the_named_members_only(archive, tmp_path):
    folder = tmp_path / "new" / "out"
    assert extract(archive, ["ml/ratings.dat"], folder) == [folder / "ratings.dat"]
    assert (folder / "ratings.dat").read_bytes() == b"1::2::3::4\n"
    assert os.listdir(folder) == ["ratings.dat"]


@pytest.mark.parametrize(
    "member", ["../evil", "/absolute", "ml/../../evil", "C:\\evil", "..\\evil", "a\0b", "", "."]
)
def test_extraction_refuses_names_that_leave_the_folder(archive, tmp_path, member):
    folder = tmp_path / "out"
    with pytest.raises(InputError, match="unsafe member name"):
        extract(archive, ["ml/ratings.dat", member], folder)
    assert not folder.exists()
    assert not (tmp_path / "evil").exists()


def test_extraction_refuses_bombs(archive, tmp_path):
    with pytest.raises(InputError, match=r"unpack to 1,048,587 bytes, more than the 1,000,000"):
        extract(archive, ["ml/ratings.dat", "ml/zeros"], tmp_path / "o", limit_bytes=1_000_000)
    assert os.listdir(tmp_path / "o") == []


def test_extraction_says_what_is_wrong_with_an_archive(archive, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no item named 'ml/none'.*the right archive"):
        extract(archive, ["ml/ratings.dat", "ml/none"], out)
    page = tmp_path / "page.zip"
    page.write_bytes(b"<html>moved</html>")
    with pytest.raises(InputError, match=r"page\.zip: cannot be unpacked"):
        extract(page, ["ml/ratings.dat"], out)
    with pytest.raises(InputError, match=r"none\.zip"):
        extract(tmp_path / "none.zip", ["ml/ratings.dat"], out)
    damaged = bytearray(archive.read_bytes())
    at = damaged.index(b"ml/ratings.dat") + len("ml/ratings.dat")
    damaged[at + 3] ^= 0xFF
    page.write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be unpacked"):
        extract(page, ["ml/ratings.dat"], out)
    assert os.listdir(out) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_damage_of_an_archive_is_one_line_of_its_name(tmp_path, method):
    sound, packed = io.BytesIO(), tmp_path / "packed.zip"
    with zipfile.ZipFile(sound, "w", method) as made:
        made.writestr("log.txt", bytes(range(256)) * 20)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        damaged = bytearray(sound.getvalue())
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        packed.write_bytes(damaged)
        message = refused(lambda: extract(packed, ["log.txt"], tmp_path / "out"))
        assert message is None or str(packed) in message, seed
        if message is None:
            assert (tmp_path / "out" / "log.txt").read_bytes() == bytes(range(256)) * 20
