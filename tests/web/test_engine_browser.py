"""The upload engine in a real browser against the local stack; the page is of another origin than the API.

What is sent is read back from S3 through the API and compared; files are picked as a person picks them.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from heavylift_local.testing import RunningStack, running_stack
from tests.web.chromium import Browser, chromium
from tests.web.engine_site import site

pytestmark = pytest.mark.xdist_group("stack")

MIB = 1024 * 1024
READY = "typeof window.page === 'object'"
BEGIN = "const [options, done] = arguments; page.begin(options); done(true);"
SEND = """
const [which, said, done] = arguments;
page.add(which, said).then(page.ended).then(done, (error) => done({ error: `${error.code}: ${error.message}` }));
"""
START = "const [which, said, done] = arguments; page.add(which, said).then(({ files }) => done(files.length));"
KEPT = """
const [done] = arguments;
uploader.resumable().then((all) => done(all.map(({ resume, discard, ...one }) => one)));
"""
RESUME = """
const [done] = arguments;
const again = document.querySelector("#files").files;
uploader.resumable().then(([one]) => one.resume(again)).then(done, (error) => done(error.code));
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page with an uploader."""

    origin: str
    browser: Browser
    stack: RunningStack

    def begin(self, **options: Any) -> None:
        """A fresh page of the same profile."""
        self.browser.open(self.origin)
        wait(lambda: self.browser.get(READY), "the page's modules do not load")
        given = {"api": self.stack.api, "token": self.stack.token(), "max_part_size": 5 * MIB, **options}
        self.browser.run(BEGIN, given)

    def pick(self, selector: str, *paths: Path, count: int | None = None) -> None:
        """Choose files; a folder is listed by the browser after it was chosen."""
        self.browser.pick(selector, *paths)
        wanted = len(paths) if count is None else count
        wait(lambda: self.browser.get(f"document.querySelector('{selector}').files.length") == wanted, "not chosen")

    def send(self, which: str, seconds: float = 60, **said: Any) -> dict[str, Any]:
        """What was picked, sent to its end: {"files", "batch"}."""
        result: dict[str, Any] = self.browser.run(SEND, which, said, seconds=seconds)
        assert "error" not in result, result
        return result

    def start(self, which: str, **said: Any) -> None:
        self.browser.run(START, which, said)

    def one(self) -> dict[str, Any]:
        """The first file that was added, as it is now."""
        told: dict[str, Any] = self.browser.get("page.tell(added.files[0])")
        return told

    def received(self) -> int:
        """Bytes of the first file that S3 has, by parts."""
        upload_id = self.one()["upload_id"]
        if upload_id is None:
            return 0
        return int(self.stack.request("GET", f"/v1/uploads/{upload_id}")["bytes_received"])

    def noted(self) -> int:
        """How many uploads a later page would be shown."""
        given = {"api": self.stack.api, "token": self.stack.token()}
        count: int = self.browser.run("const [given, done] = arguments; page.noted(given).then(done);", given)
        return count

    def offline(self, off: bool) -> None:
        self.browser.cdp("Network.enable")
        rates = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.cdp("Network.emulateNetworkConditions", offline=off, **rates)

    def ended(self, seconds: float = 60) -> dict[str, Any]:
        result: dict[str, Any] = self.browser.run(
            "const [done] = arguments; page.ended(added).then(done);", seconds=seconds
        )
        return result


def wait(found: Any, words: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, words
        time.sleep(0.05)


def written(path: Path, size: int, seed: int = 1) -> Path:
    """A file of chance, a MiB that is turned for each of its pieces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    twice = random.Random(seed).randbytes(min(MIB, size)) * 2
    with path.open("wb") as out:
        for at in range(0, size, MIB):
            start = (at // MIB * 4099) % MIB
            out.write((twice * 2)[start : start + min(MIB, size - at)])
    return path


def sha256_of(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def final(stack: RunningStack, file_id: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not (file := stack.request("GET", f"/v1/files/{file_id}"))["final"]:
        assert time.monotonic() < deadline, file
        time.sleep(0.1)
    return dict(file)


def same_at_s3(stack: RunningStack, file_id: str, path: Path) -> None:
    """The stored object has the file's bytes."""
    file = final(stack, file_id)
    assert file["status"] == "completed", file
    link = stack.request("GET", f"/v1/files/{file_id}/content?redirect=false")["url"]
    digest = hashlib.sha256()
    with urllib.request.urlopen(link, timeout=120) as body:
        while piece := body.read(MIB):
            digest.update(piece)
    assert digest.hexdigest() == sha256_of(path)


def part_puts(stack: RunningStack) -> int:
    return int(stack.counters().get("client", {}).get("s3.UploadPart", {}).get("requests", 0))


def s3_of(stack: RunningStack) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=stack.s3,
        region_name=str(stack.ready["region"]),
        aws_access_key_id=str(stack.ready["s3_access_key"]),
        aws_secret_access_key=str(stack.ready["s3_secret_key"]),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def staged(stack: RunningStack, keys: list[str]) -> list[tuple[str, bool]]:
    """Of each object in staging: the SHA-256 of its bytes, and whether S3 had proven one."""
    s3, bucket, found = s3_of(stack), str(stack.ready["buckets"]["staging"]), []
    for key in keys:
        answer = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        digest = hashlib.sha256()
        for piece in answer["Body"].iter_chunks(MIB):
            digest.update(piece)
        found.append((digest.hexdigest(), "ChecksumSHA256" in answer))
    return found


def left_in_staging(stack: RunningStack, upload_id: str) -> list[str]:
    """Keys of objects and open multipart uploads that are an upload's."""
    s3 = s3_of(stack)
    bucket = str(stack.ready["buckets"]["staging"])
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    found += s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [one["Key"] for one in found if upload_id in one["Key"]]


@pytest.fixture(scope="module")
def hosts() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def origin(hosts: dict[str, str]) -> Iterator[str]:
    with site(lambda: hosts.get("policy", "")) as address:
        yield address


@pytest.fixture(scope="module")
def stack(origin: str, hosts: dict[str, str]) -> Iterator[RunningStack]:
    with running_stack(env={"HEAVYLIFT_CORS_ORIGINS": origin}) as running:
        hosts["policy"] = f"{running.api} {running.s3}"
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(origin: str, browser: Browser, stack: RunningStack) -> Page:
    return Page(origin, browser, stack)


def test_files_of_both_sizes_arrive_with_every_byte_proven(page: Page, tmp_path: Path) -> None:
    """One PUT and parts, while S3 refuses one request in ten; progress never goes back; nothing breaks the policy."""
    paths = [written(tmp_path / "small.bin", 70_000), written(tmp_path / "large.bin", 21 * MIB + 7, 2)]
    page.begin()
    page.pick("#files", *paths)
    refused = [0.1, 503, "SlowDown"]
    page.stack.faults({"s3": {"errors": {"UploadPart": refused, "PutObject": refused}}})
    try:
        result = page.send("files", kind="other")
    finally:
        page.stack.faults({})
    for told, path in zip(result["files"], paths, strict=True):
        assert (told["state"], told["status"], told["name"]) == ("done", "completed", path.name), told
        same_at_s3(page.stack, told["file_id"], path)
        record = page.stack.request("GET", f"/v1/files/{told['file_id']}")
        assert record["checksums"].get("sha256_composite") or record["checksums"]["sha256_proven"]
    assert page.browser.get("seen.backwards") == 0
    wait(lambda: page.browser.get("seen.bytes.at(-1)") == sum(path.stat().st_size for path in paths), "progress")
    compiled = "new Worker('/web/engine/hash_worker.js', {type: 'module'}).onmessage = (e) => done(e.data)"
    assert page.browser.run(f"const [done] = arguments; {compiled};") == {"ready": True, "compiled": True}
    broken = [said for said in page.browser.log() if "Content Security Policy" in said["message"]]
    assert broken == []


def test_a_folder_is_a_batch_of_forms_with_digests(page: Page, tmp_path: Path) -> None:
    """Right bytes, names and paths; a large member goes in parts; a few calls in all."""
    root = tmp_path / "scans"
    paths = [written(root / f"{n % 3}" / f"né {n}.bin", 1_000 * n, n + 1) for n in range(8)]
    paths.append(written(root / "big.bin", 17 * MIB, 3))
    page.begin()
    page.pick("#folder", root, count=len(paths))
    forms = page.stack.counters().get("client", {}).get("s3.PostObject", {}).get("requests", 0)
    result = page.send("folder")
    batch = page.stack.request("GET", f"/v1/batches/{result['batch']['batch_id']}")
    assert (result["batch"]["state"], batch["status"], batch["succeeded"]) == ("done", "completed", 9), batch
    assert {told["state"] for told in result["files"]} == {"done"}
    by_path = {told["relative_path"]: told for told in result["files"]}
    assert sorted(by_path) == sorted(str(path.relative_to(root)) for path in paths)
    for path in paths[::6] + paths[-1:]:
        same_at_s3(page.stack, by_path[str(path.relative_to(root))]["file_id"], path)
    for told in result["files"]:
        sums = page.stack.request("GET", f"/v1/files/{told['file_id']}")["checksums"]
        assert sums.get("sha256_composite") or sums["sha256_proven"]
    assert page.stack.counters()["client"]["s3.PostObject"]["requests"] - forms == 8


def test_a_page_that_was_closed_goes_on_with_the_missing_parts(page: Page, tmp_path: Path) -> None:
    """The browser remembers; a wrong file is noticed; the right one sends only what is missing, offline for a while."""
    path = written(tmp_path / "again.bin", 36 * MIB + 1, 5)
    page.begin()
    page.pick("#files", path)
    page.stack.faults({"s3": {"latency_ms": {"UploadPart": 2_500}}})  # some parts arrive together, others wait
    page.start("files")
    wait(lambda: page.received() >= 5 * MIB, "no parts arrive")
    page.browser.open("about:blank")
    page.stack.faults({})
    page.begin()
    (kept,) = page.browser.run(KEPT)
    assert (kept["kind"], kept["name"], kept["size"], kept["has_handle"]) == ("file", path.name, 36 * MIB + 1, False)

    page.pick("#files", written(tmp_path / "wrong" / "again.bin", 36 * MIB + 1, 6))
    assert page.browser.run(RESUME) == "wrong_file"

    page.browser.open(page.origin)  # a choice that is made again replaces the old one
    page.begin()
    before = part_puts(page.stack)
    page.pick("#files", path)
    page.stack.faults({"s3": {"latency_ms": {"UploadPart": 1_500}}})
    page.start("files")
    wait(lambda: part_puts(page.stack) > before, "it does not go on")
    page.offline(True)
    wait(lambda: page.browser.get("uploader.online") is False, "nobody notices")
    page.stack.faults({})
    page.offline(False)
    (told,) = page.ended()["files"]
    assert (told["state"], told["upload_id"]) == ("done", kept["id"]), told
    assert told["bytes_resumed"] >= 5 * MIB
    assert page.browser.get("seen.online") == [False, True]
    same_at_s3(page.stack, told["file_id"], path)
    assert page.browser.run(KEPT) == []


def test_two_tabs_with_one_file_and_a_cancel(page: Page, tmp_path: Path) -> None:
    """The second tab waits and then goes on with the session that the first one left; nothing is sent twice. What is
    cancelled leaves nothing in S3."""
    path = written(tmp_path / "tabs.bin", 31 * MIB, 7)
    page.begin()
    page.pick("#files", path)
    page.stack.faults({"s3": {"latency_ms": 300}})
    before = part_puts(page.stack)
    page.start("files")
    second = """
    const [options, done] = arguments;
    window.other = open("/");
    const ready = () => {
      if (!other.page) return setTimeout(ready, 50);
      other.page.begin(options);
      const [file] = document.querySelector("#files").files;
      other.uploader.add(new other.File([file], file.name)).then(({ files: [one] }) => { window.second = one; });
      const waits = () => (window.second?.notice ? done(true) : setTimeout(waits, 50));
      waits();
    };
    ready();
    """
    given = {"api": page.stack.api, "token": page.stack.token(), "max_part_size": 5 * MIB}
    page.browser.run(second, given)
    wait(lambda: page.received() >= 5 * MIB, "no parts arrive")
    page.browser.get("uploader.close()")
    page.stack.faults({})
    told = page.browser.run("const [done] = arguments; second.finished.then((one) => done(page.tell(one)));")
    assert (told["state"], told["upload_id"]) == ("done", page.one()["upload_id"]), told
    assert told["bytes_resumed"] >= 5 * MIB
    assert part_puts(page.stack) - before <= 7 + 6  # those that were on the wire when the first tab was closed go again
    same_at_s3(page.stack, told["file_id"], path)
    page.browser.get("other.close()")

    page.begin()
    page.pick("#files", path)
    page.stack.faults({"s3": {"latency_ms": 300}})
    page.start("files")
    wait(lambda: page.received() >= 5 * MIB, "no parts arrive")
    upload_id = page.one()["upload_id"]
    page.browser.run("const [done] = arguments; uploader.cancel().then(done);")
    page.stack.faults({})
    assert page.stack.request("GET", f"/v1/uploads/{upload_id}")["status"] == "cancelled"
    assert page.stack.request("GET", "/v1/uploads?status=uploading")["items"] == []
    assert left_in_staging(page.stack, upload_id) == []
    assert page.browser.run(KEPT) == []


def test_a_drop_is_read_in_its_own_turn(page: Page) -> None:
    """Files of a drop, which the browser empties after the event; the fingerprint is the Python client's."""
    page.begin(follow=False)
    dropped = """
    const [done] = arguments;
    const transfer = new DataTransfer();
    for (const name of ["a.txt", "b.txt"]) transfer.items.add(new File([name.repeat(10)], name));
    let adding;
    document.addEventListener("drop", (event) => { adding = uploader.add(event.dataTransfer); });
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    adding.then(page.ended).then(done, (error) => done({ error: String(error) }));
    """
    result = page.browser.run(dropped)
    assert [(told["name"], told["state"]) for told in result["files"]] == [("a.txt", "done"), ("b.txt", "done")], result
    marks = "const [done] = arguments; page.fingerprintOf(new Blob([])).then(done);"
    assert page.browser.run(marks) == "v1:" + hashlib.sha256(bytes(8)).hexdigest()


def test_kept_handles_need_no_choice(page: Page) -> None:
    """A file and a folder that were given as handles go on after a reload by themselves, without being chosen again."""
    page.begin(follow=False)
    write = """
    const [done] = arguments;
    const piece = (seed) => new Uint8Array(1024 * 1024).map((_, i) => (i * seed) >> 8);
    const put = async (folder, name, mib, seed) => {
      const handle = await folder.getFileHandle(name, { create: true });
      const out = await handle.createWritable();
      for (let i = 0; i < mib; i += 1) await out.write(piece(seed + i));
      await out.close();
      return handle;
    };
    (async () => {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle("kept", { create: true });
      const inner = await folder.getDirectoryHandle("inner", { create: true });
      for (let i = 0; i < 6; i += 1) await put(i % 2 ? folder : inner, `${i}.bin`, 1, i + 1);
      await uploader.add(await put(root, "alone.bin", 17, 40));
      window.added = await uploader.add(folder);
      done(window.added.files.map((one) => one.relative_path).sort());
    })().catch((error) => done(String(error)));
    """
    page.stack.faults({"s3": {"latency_ms": 2_000}})
    paths = page.browser.run(write)
    assert paths == ["1.bin", "3.bin", "5.bin", "inner/0.bin", "inner/2.bin", "inner/4.bin"]
    wait(lambda: page.noted() == 2, "nothing is noted")
    page.browser.open("about:blank")
    page.stack.faults({})
    page.begin(follow=False)
    kept = page.browser.run(KEPT)
    assert sorted((one["kind"], one["name"], one["files"], one["has_handle"]) for one in kept) == [
        ("batch", "kept", 6, True),
        ("file", "alone.bin", 1, True),
    ]
    go_on = """
    const [done] = arguments;
    (async () => {
      const all = [];
      for (const one of await uploader.resumable()) all.push(await one.resume());
      for (const { files, batch } of all) await (batch ?? files[0]).finished;
      done(all.map(({ files, batch }) => batch ?? files[0]).map((one) => [one.state, one.batch_id ?? one.upload_id]));
    })().catch((error) => done([[String(error)]]));
    """
    ended = page.browser.run(go_on)
    assert sorted(ended) == sorted(["done", one["id"]] for one in kept)
    assert page.browser.run(KEPT) == []


def resident_bytes(profile: Path) -> int:
    """Of all page processes of the browser with this profile."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            if b"--type=renderer" in command and str(profile).encode() in _parents(int(status.parent.name)):
                lines = status.read_text().splitlines()
                total += next(int(line.split()[1]) * 1024 for line in lines if "RssAnon" in line)
        except (OSError, StopIteration):
            continue
    return total


def _parents(pid: int) -> bytes:
    """The command lines of a process's ancestors."""
    commands = b""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        commands += Path(f"/proc/{pid}/cmdline").read_bytes()
    return commands


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_two_gibibytes_and_two_thousand_files(origin: str, tmp_path: Path, hosts: dict[str, str]) -> None:
    """Right bytes at S3, each proven by a SHA-256; no task of the page above 50 ms; the page's memory is flat.

    Nothing is processed, so that what lies in staging can be looked at.
    """
    profile = tmp_path / "profile"
    known = hosts.get("policy", "")
    with (
        running_stack(env={"HEAVYLIFT_CORS_ORIGINS": origin}, args=("--no-events",)) as stack,
        chromium(profile) as one,
    ):
        hosts["policy"] = f"{stack.api} {stack.s3}"
        page = Page(origin, one, stack)
        large = written(tmp_path / "large.bin", 2048 * MIB, 11)
        page.begin(max_part_size=None, follow=False)
        page.pick("#files", large)
        before = peak = resident_bytes(profile)
        page.start("files")
        deadline = time.monotonic() + 3_600
        while page.one()["state"] not in ("done", "failed"):
            assert time.monotonic() < deadline
            peak = max(peak, resident_bytes(profile))
            time.sleep(0.1)
        told = page.one()
        assert told["state"] == "done", told
        assert staged(stack, [f"in/demo/{told['upload_id']}"]) == [(sha256_of(large), True)]
        assert peak - before <= 6 * 16 * MIB, f"{(peak - before) / MIB:.0f} MiB for six parts in flight"
        large.unlink()

        root = tmp_path / "many"
        paths = [written(root / f"{n % 50}" / f"{n}.bin", 100_000 + n, n) for n in range(2_000)]
        page.begin(follow=False)
        page.pick("#folder", root, count=len(paths))
        page.browser.get("page.tasks.length = 0")
        result = page.send("folder", seconds=3_600)
        assert result["batch"]["state"] == "done", result["batch"]
        assert result["long_tasks"] == []
        by_path = {str(path.relative_to(root)): sha256_of(path) for path in paths}
        assert sorted(told["relative_path"] for told in result["files"]) == sorted(by_path)
        members = [told["file_id"].split("-") for told in result["files"]]
        found = staged(stack, [f"in/demo/{batch_id}/{int(n)}" for batch_id, n in members])
        assert found == [(by_path[told["relative_path"]], True) for told in result["files"]]
    hosts["policy"] = known


@pytest.mark.full
@pytest.mark.timeout(7_200)
def test_a_bad_day(origin: str, tmp_path: Path, hosts: dict[str, str]) -> None:
    """URLs that live two seconds, one request in ten refused, the network away for ten seconds, a second browser
    profile that goes on: it ends well without a click."""
    env = {"HEAVYLIFT_CORS_ORIGINS": origin, "SIGNATURE_TTL_SECONDS": "2"}
    known = hosts.get("policy", "")
    with running_stack(env=env) as stack:
        hosts["policy"] = f"{stack.api} {stack.s3}"
        path = written(tmp_path / "bad.bin", 512 * MIB, 13)
        root = tmp_path / "folder"
        small = [written(root / f"{n}.bin", 50_000 + n, n) for n in range(150)]
        refused = [0.1, 503, "SlowDown"]
        errors = {"UploadPart": refused, "PutObject": refused, "PostObject": refused}
        with chromium(tmp_path / "first") as one:
            page = Page(origin, one, stack)
            page.begin(max_part_size=16 * MIB)
            page.pick("#files", path)
            stack.faults({"s3": {"errors": errors, "latency_ms": 200}})
            page.start("files")
            wait(lambda: page.received() >= 128 * MIB, "no parts arrive", 600)
            upload_id = page.one()["upload_id"]
        with chromium(tmp_path / "second") as two:
            page = Page(origin, two, stack)
            page.begin(max_part_size=16 * MIB)
            page.pick("#files", path)
            page.start("files")
            wait(lambda: page.one()["progress"]["bytes"] >= 256 * MIB, "it does not go on", 600)
            page.offline(True)
            time.sleep(10)
            page.offline(False)
            (told,) = page.ended(1_800)["files"]
            assert (told["state"], told["upload_id"]) == ("done", upload_id), told
            assert told["bytes_resumed"] >= 64 * MIB
            page.begin(follow=False)
            page.pick("#folder", root, count=len(small))
            result = page.send("folder", seconds=1_800)
            assert result["batch"]["state"] == "done", result["batch"]
        stack.faults({})
        assert final(stack, upload_id, 600)["status"] == "completed"
        batch_id = result["batch"]["batch_id"]
        wait(lambda: stack.request("GET", f"/v1/batches/{batch_id}?wait=20")["final"], "the batch does not end", 1_800)
        assert stack.request("GET", f"/v1/batches/{batch_id}")["succeeded"] == len(small)
    hosts["policy"] = known
    assert os.path.exists(path)
