"The download against a publisher on this machine that misbehaves in every way we could think of."

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT, SHARED, needs_data

from stouter.commands.data import download as command
from stouter.data import download as module
from stouter.data.download import COLLECTIONS, RetryPolicy, download, plan_download, read_collection
from stouter.files import InputError

QUICK = RetryPolicy(tries=3, backoff=0.01, timeout=5, max_backoff=5)


def body_of(number, size=200_000):
    "Bytes that belong to one file and to one place in it."
    return b"".join(hashlib.md5(f"{number} {k}".encode()).digest() for k in range(size // 16))


def describe(path=None, n_files=4, size=200_000):
    "The publisher's real description with small files in it, or one of the same shape where it is not at hand."
    if path is not None:
        content = json.loads(path.read_text())
    else:
        names = [f"sms-call-internet-mi-2013-11-{day:02}.txt" for day in range(1, n_files + 1)]
        content = {
            "datasetVersion": {
                "license": "NONE",
                "termsOfUse": "The data is released under ODbL 1.0 license.",
                "metadataBlocks": {"citation": {"fields": [{"typeName": "title", "value": "Some days"}]}},
                "files": [
                    {"dataFile": {"id": 100 + k, "filename": name, "filesize": 0, "md5": ""}}
                    for k, name in enumerate(names)
                ],
            }
        }
    bodies = {}
    for entry in content["datasetVersion"]["files"]:
        told = entry["dataFile"]
        bodies[told["id"]] = body = body_of(told["id"], size)
        told.update(
            filesize=len(body),
            md5=hashlib.md5(body).hexdigest(),
            checksum={"type": "MD5", "value": hashlib.md5(body).hexdigest()},
        )
    return content, bodies


class Handler(BaseHTTPRequestHandler):
    "Serves `server.content` and `server.bodies`; every request takes one fault of its file, or of 'description'."

    def do_GET(self):
        name = "description" if "/api/datasets/export" in self.path else int(self.path.split("?")[0].rsplit("/", 1)[-1])
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        with self.server.lock:
            self.server.log.append((name, start))
            queue = self.server.faults.get(name, [])
            kind, *rest = queue.pop(0) if queue else ("fine",)
        body = json.dumps(self.server.content).encode() if name == "description" else self.server.bodies[name]
        getattr(self, f"do_{kind}")(body, start, *rest)
        self.close_connection = True

    def send(self, status, length, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": length, **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def head(self, body, start):
        span = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        self.send(206 if start else 200, len(body) - start, **span)

    def do_fine(self, body, start):
        self.head(body, start)
        self.write(body[start:])

    def do_answer(self, body, start, status, **headers):
        self.send(status, 0)

    def do_later(self, body, start, seconds):
        self.send(429, 0, Retry_After=seconds)

    def do_broken(self, body, start, after):
        self.head(body, start)
        self.write(body[start : start + after])

    def do_rangeless(self, body, start):
        self.send(200, len(body))
        self.write(body)

    def do_rangeless_and_broken(self, body, start, after):
        self.send(200, len(body))
        self.write(body[:after])

    def do_misplaced(self, body, start):
        self.send(206, len(body) - 5, Content_Range=f"bytes 5-{len(body) - 1}/{len(body)}")
        self.write(body[5:])

    def do_end(self, body, start):
        self.send(206, 5, Content_Range=f"bytes {len(body) - 5}-{len(body) - 1}/{len(body)}")
        self.write(body[-5:])

    def do_wrong(self, body, start):
        self.head(body, start)
        self.write(bytes(len(body) - start))

    def do_endless(self, body, start):
        self.send_response(200)
        self.end_headers()
        self.write(body + body)

    def do_silent(self, body, start):
        self.head(body, start)
        time.sleep(3)

    def do_slow(self, body, start):
        self.head(body, start)
        for place in range(start, len(body), 4096):
            self.write(body[place : place + 4096])
            time.sleep(0.02)

    def do_redirect(self, body, start, number):
        self.send(303, 0, Location=f"/storage/{number}")

    def write(self, content):
        try:
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            pass  # the client went away, as some of these tests want it to

    def log_message(self, *words):
        pass


@pytest.fixture
def publisher():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.bodies = describe()
    server.faults, server.log, server.lock = {}, [], threading.Lock()
    server.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(publisher, folder, days=None, **options):
    plan = plan_download(read_collection(COLLECTIONS["milan"], publisher.base, QUICK), folder, days)
    return download(plan, publisher.base, **{"workers": 2, "retry": QUICK, **options})


def whole(publisher, folder):
    "Are all files there, byte for byte, and nothing else but the description?"
    names = {
        entry["dataFile"]["filename"]: publisher.bodies[entry["dataFile"]["id"]]
        for entry in publisher.content["datasetVersion"]["files"]
    }
    there = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "EGZHFV.json"}
    return there == names


RECOVERS = {
    "500 then success": [("answer", 500)],
    "502 and 503": [("answer", 502), ("answer", 503)],
    "429 with Retry-After": [("later", 0)],
    "429 with a date gone by": [("later", "Wed, 21 Oct 2015 07:28:00 GMT")],
    "408": [("answer", 408)],
    "broken at once": [("broken", 0), ("broken", 0)],
    "broken more often than we have tries": [("broken", 30_000)] * 6,
    "broken and range not honoured": [("broken", 50_000), ("rangeless",)],
    "broken and another range": [("broken", 50_000), ("misplaced",)],
    "broken and then only the end": [("broken", 50_000), ("end",)],
    "wrong checksum once": [("wrong",)],
    "wrong end": [("broken", 100_000), ("wrong",)],
    "a body without an end": [("endless",)],
    "redirect to the storage": [("redirect", 100)],
    "redirect in the middle": [("broken", 70_000), ("redirect", 100)],
    "416 for a part": [("broken", 10_000), ("answer", 416)],
}


@pytest.mark.parametrize("faults", RECOVERS.values(), ids=RECOVERS)
def test_recovers(publisher, tmp_path, faults):
    publisher.faults[100] = list(faults)
    fetch(publisher, tmp_path / "raw")
    assert whole(publisher, tmp_path / "raw")
    assert publisher.faults[100] == []  # every fault was met


GIVES_UP = {
    "403": ([("answer", 403)], "2013-11-01.txt: the server answered 403 Forbidden; check"),
    "404": ([("answer", 404)], "answered 404"),
    "500 for ever": ([("answer", 500)] * 9, "answered 500 .*, 3 times in a row; what has arrived is kept"),
    "429 for an hour": ([("later", 3600)], "asks to come back in 3600 s"),
    "wrong checksum twice": ([("wrong",)] * 2, "arrived twice with a wrong MD5"),
    "silence": ([("silent",)] * 3, "timed out, 3 times in a row"),
}


@pytest.mark.parametrize("faults, says", GIVES_UP.values(), ids=GIVES_UP)
def test_gives_up_on_one_file_and_fetches_the_others(publisher, tmp_path, faults, says):
    publisher.faults[100] = list(faults)
    retry = RetryPolicy(tries=3, backoff=0.01, timeout=0.5, max_backoff=5)
    with pytest.raises(InputError, match=f"^1 of 4 files could not be fetched. The first: .*{says}") as told:
        fetch(publisher, tmp_path / "raw", retry=retry)
    assert "\n" not in str(told.value)
    assert sum(path.suffix == ".txt" for path in (tmp_path / "raw").iterdir()) == 3
    publisher.faults.clear()
    publisher.log.clear()
    fetch(publisher, tmp_path / "raw")  # the next call asks for the missing one alone
    assert whole(publisher, tmp_path / "raw")
    assert {name for name, _ in publisher.log} == {"description", 100}


def test_no_byte_is_lost_to_a_server_without_ranges(publisher, tmp_path):
    publisher.faults[100] = [
        ("broken", 50_000),
        ("rangeless_and_broken", 20_000),
        ("rangeless_and_broken", 70_000),
        ("rangeless",),
    ]
    fetch(publisher, tmp_path)
    assert whole(publisher, tmp_path)
    assert [start for name, start in publisher.log if name == 100] == [0, 50_000, 50_000, 70_000]


def test_retry_after_is_waited_for(publisher, tmp_path):
    publisher.faults[100], slept = [("later", 2)], []
    file = read_collection("doi:10.1/X", publisher.base, QUICK).files[0]
    module.fetch_file(file, tmp_path, publisher.base, QUICK, wait=slept.append)
    assert slept == [2]


def test_three_failures_stop_the_rest(publisher, tmp_path):
    publisher.content, publisher.bodies = describe(n_files=20)
    publisher.faults = {number: [("answer", 403)] for number in publisher.bodies}
    with pytest.raises(InputError, match="of 20 files could not be fetched; no more were tried"):
        fetch(publisher, tmp_path / "raw")
    assert 3 <= len(publisher.log) - 1 <= 6  # one description; never all twenty


@needs_data
@pytest.mark.parametrize("city, n_bytes", [("milan", 20_804_803_507), ("trentino", 11_638_156_812)])
def test_real_description_with_small_files(publisher, tmp_path, city, n_bytes):
    real = SHARED / "dataverse" / f"{city}_cdr.json"
    assert (
        sum(entry["dataFile"]["filesize"] for entry in json.loads(real.read_text())["datasetVersion"]["files"])
        == n_bytes
    )
    publisher.content, publisher.bodies = describe(real, size=2_000)
    for number in list(publisher.bodies)[::5]:
        publisher.faults[number] = [("broken", 500), ("answer", 500)]
    plan = plan_download(read_collection(COLLECTIONS[city], publisher.base, QUICK), tmp_path)
    assert "ODbL 1.0" in plan.summary() and "62 files" in plan.summary()
    seen = {}
    files = download(plan, publisher.base, 4, QUICK, seen.__setitem__)
    assert len(files) == 62 and set(seen.values()) == {2_000}
    assert [hashlib.md5(path.read_bytes()).hexdigest() for path in files] == [file.md5 for file in plan.files]
    assert files[0].name == f"sms-call-internet-{'mi' if city == 'milan' else 'tn'}-2013-11-01.txt"


def test_what_is_there_is_skipped_and_what_is_foreign_is_kept(publisher, tmp_path):
    first, *others = fetch(publisher, tmp_path)
    publisher.log.clear()
    fetch(publisher, tmp_path)
    assert publisher.log == [("description", 0)]
    first.write_bytes(first.read_bytes()[:-1] + b"!")  # the same size, other bytes
    with pytest.raises(InputError, match="there is such a file, and it is not the publisher's"):
        fetch(publisher, tmp_path)
    assert first.read_bytes()[-1:] == b"!"
    others[0].write_bytes(b"half")
    with pytest.raises(InputError, match="2 of 4 files"):
        fetch(publisher, tmp_path)
    assert others[0].read_bytes() == b"half"


@pytest.mark.parametrize(
    "left_behind",
    [b"", b"something else", bytes(200_000), bytes(300_000)],
    ids=["empty", "foreign", "whole size", "too long"],
)
def test_a_part_of_anything_is_replaced_by_the_file(publisher, tmp_path, left_behind):
    (tmp_path / "sms-call-internet-mi-2013-11-01.txt.part").write_bytes(left_behind)
    fetch(publisher, tmp_path)
    assert whole(publisher, tmp_path)


def test_several_at_a_time(publisher, tmp_path):
    running, most = set(), [0]

    def on_progress(name, have):
        running.add(name) if have < 200_000 else running.discard(name)
        most[0] = max(most[0], len(running))

    publisher.faults = {number: [("slow",)] for number in publisher.bodies}
    fetch(publisher, tmp_path, workers=3, on_progress=on_progress)
    assert most[0] == 3 and whole(publisher, tmp_path)


def test_too_small_a_disk_is_seen_before(publisher, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 700_000})())
    with pytest.raises(InputError, match="raw: 800.0 kB to fetch, 700.0 kB free; choose fewer days"):
        fetch(publisher, tmp_path / "raw")
    assert publisher.log == [("description", 0)] and not (tmp_path / "raw").exists()
    assert len(fetch(publisher, tmp_path / "raw", "2013-11-01:2013-11-03")) == 3
    assert len(fetch(publisher, tmp_path / "raw")) == 4  # what is there needs no room


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line():
    with (
        open("/dev/full", "ab", buffering=0) as sink,
        pytest.raises(
            InputError, match=f"/dev/full: cannot write .{os.strerror(errno.ENOSPC)}.; what has arrived is kept"
        ),
    ):
        module.write_all(sink, b"x")


def test_disk_full_on_the_way(publisher, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (120_000, before[1])
        )  # the system refuses any file to grow beyond that
        with pytest.raises(
            InputError, match="^[34] of 4 .*txt.part: cannot write .*; what has arrived is kept, make room and start"
        ):
            fetch(publisher, tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    *begun, third, second, first = sorted(path.stat().st_size for path in tmp_path.glob("*.part"))
    assert (first, second, third) == (120_000,) * 3 and len(
        begun
    ) <= 1  # a fourth may have begun before the third failure was heard of
    publisher.log.clear()
    fetch(publisher, tmp_path)
    assert whole(publisher, tmp_path)
    assert sorted(start for _, start in publisher.log) == sorted(
        [0, *(begun or [0]), 120_000, 120_000, 120_000]
    )  # description, fourth file, three ends


def test_folder_that_cannot_be(publisher, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write into .*choose another output folder"):
        fetch(publisher, tmp_path / "file" / "raw")


def size_of(path):
    "Bytes of a file that may be renamed at this moment."
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


CHILD = (
    "import sys; from pathlib import Path; from stouter.commands.data import download; "
    "download('milan', out=Path(sys.argv[1]), base=sys.argv[2], workers=2)"
)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_killed_and_resumed(publisher, tmp_path, kill):
    folder = tmp_path / "raw"
    publisher.faults = {number: [("slow",)] for number in publisher.bodies}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), publisher.base],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell in the background would have it ignored
    )
    deadline = time.monotonic() + 60
    while not any(size_of(path) > 20_000 for path in folder.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(kill)
    child.wait(30)
    kept = {path.name.removesuffix(".part"): path.stat().st_size for path in folder.glob("*.part")}
    assert any(size > 20_000 for size in kept.values())
    publisher.faults.clear()
    publisher.log.clear()
    fetch(publisher, folder)
    assert whole(publisher, folder)
    names = {
        entry["dataFile"]["id"]: entry["dataFile"]["filename"] for entry in publisher.content["datasetVersion"]["files"]
    }
    for number, start in publisher.log[1:]:
        assert start == kept.get(names[number], 0)  # not a byte was asked for twice
    assert Counter(name for name, _ in publisher.log).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda told: told.update(filename="../../.profile"), "file name"),
        (lambda told: told.update(md5="12"), "MD5"),
        (lambda told: told.pop("id"), "id"),
    ],
    ids=["a path for a name", "no MD5", "no id"],
)
def test_descriptions_that_are_none(publisher, change, says):
    change(publisher.content["datasetVersion"]["files"][1]["dataFile"])
    with pytest.raises(
        InputError, match=f"expected a Dataverse's description of doi:10.1/X, got something else .*{says}"
    ):
        read_collection("doi:10.1/X", publisher.base, QUICK)


def test_tabular_files_are_asked_for_as_they_were_uploaded(publisher, tmp_path):
    told = publisher.content["datasetVersion"]["files"][0]["dataFile"]
    told.update(filename="towers.tab", originalFileName="towers.csv", originalFileSize=told["filesize"], filesize=77)
    collection = read_collection("doi:10.1/X", publisher.base, QUICK)
    assert collection.files[0].original
    paths = download(plan_download(collection, tmp_path), publisher.base, 1, QUICK)
    assert paths[0].name == "towers.csv" and paths[0].read_bytes() == publisher.bodies[100]


def test_command(publisher, tmp_path, capsys):
    command("milan", days="2013-11-02:2013-11-03", out=tmp_path / "raw", base=publisher.base + "/")
    said = capsys.readouterr().out
    assert "2 files, 400.0 kB" in said and "ODbL 1.0" in said and said.strip().endswith("stouter download milan-grid")
    assert len(list((tmp_path / "raw").glob("*.txt"))) == 2
    with pytest.raises(InputError, match="no file for 2013-12-01; the files hold 2013-11-01 to 2013-11-04"):
        command("milan", days="2013-12-01", out=tmp_path / "raw", base=publisher.base)
    with pytest.raises(InputError, match="unknown collection 'roma'"):
        command("roma", out=tmp_path / "raw", base=publisher.base)
