"""``Client``: everything the API offers, for Python programs.

    from heavylift_client import Client

    with Client("https://api.example.com", token) as client:
        result = client.put("scan.tif")
        client.get(result.file_id, "copy.tif")

Uploads go straight to S3 in parallel parts, each proven by its SHA-256; nothing larger than 1 MiB of a file
is in memory per thread. Every call waits out an API or a store that is away for up to ``patience_s``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from heavylift_client import crc
from heavylift_client.api import Api, ApiError, segment
from heavylift_client.backoff import Clock, poll_s
from heavylift_client.batches import BatchUpload
from heavylift_client.batches.journal import Journal, key_of
from heavylift_client.batches.run import Run, Said, Tools
from heavylift_client.download import Download, Expected, Fetcher, download, expected_of
from heavylift_client.errors import AnswerError, ClientError, NoSession, Stopped
from heavylift_client.meter import Meter
from heavylift_client.pace import Pace
from heavylift_client.results import Result
from heavylift_client.sources import Declared, Item, item_of
from heavylift_client.transfers import Hooks, SignedUrl, signed_url
from heavylift_client.transport import TIMEOUT_S, Transport
from heavylift_client.upload import upload

if TYPE_CHECKING:
    import ssl

Path = str | bytes | os.PathLike[str]
Results = Generator[Result, None, None]
DOWNLOAD_CONCURRENCY = 4
PAGE_MAX = 100  # the API's own limit for one page
# Before its bytes are all there, the session knows more about an upload than the file's record.
STILL_UPLOADING = frozenset({"created", "uploading", "assembling"})


class Client:
    """One tenant's API.

    ``token``: a bearer token, or a function that returns a fresh one. ``concurrency``: parts on the wire at
    once, at most; by default the best number from 4 to 16 is found on the way. There are fewer while the store
    asks for less. ``patience_s``: how long the API or the store may be away before a call gives up. Not for
    sharing between threads, but for ``stop``, which may come from anywhere.
    """

    def __init__(
        self,
        api: str,
        token: str | Callable[[], str],
        *,
        concurrency: int | None = None,
        patience_s: float = 900.0,
        timeout_s: float = TIMEOUT_S,
        max_part_size: int | None = None,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = api
        self._token = token
        self._concurrency = concurrency
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._max_part_size = max_part_size
        self._hooks = hooks or Hooks()
        self._clock = clock or Clock()
        self._ssl_context = ssl_context
        self._stop = threading.Event()
        self._running: set[threading.Event] = set()
        self._transport = self._new_transport()
        self._api = self._new_api(self._transport, self._stop)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def stop(self) -> None:
        """Let whatever runs end soon with ``Stopped``. The client is of no use after that."""
        self._stop.set()
        for stop in list(self._running):
            stop.set()

    # uploads

    def put(self, path: Path, *, name: str | None = None, wait: bool = True, **declared: Any) -> Result:
        """Upload one file and, with ``wait``, wait for its verdict. Resumes an open session of the same bytes.

        ``declared``: kind, type, data_type, description, logical_id, metadata, rules. What goes wrong with
        this file is in the result (``ok``, ``failure``); raises Stopped.
        """
        (result,) = self.put_many([item_of(path, declare(**declared), name=name)], wait=wait)
        return result

    def put_many(self, paths: Iterable[Path | Item], *, wait: bool = True, **declared: Any) -> Results:
        """Upload files, many at once; results come in the order in which files end. ``paths`` is read lazily.

        One file's failure is its result and never stops the others. Closing the iterator stops the work.
        """
        said = declare(**declared)
        return self._upload((p if isinstance(p, Item) else item_of(p, said) for p in paths), wait=wait)

    def upload_batch(
        self,
        folder: Path,
        *,
        wait: bool = True,
        facility: str | None = None,
        state_dir: Path | None = None,
        **declared: Any,
    ) -> BatchUpload:
        """Upload every regular file below ``folder``, hidden ones too, as one batch; links are not followed.

        ``declared`` holds for all files: kind, type, data_type, description, logical_id, metadata, rules. The
        same call goes on with a batch that was cut at any moment: what was done is noted in ``state_dir``
        (``$XDG_STATE_HOME/heavylift/batches``), and only what is not there goes up. Iterate the result for each
        file's outcome; then its ``record`` is the batch. Files over 16 MiB go up in parts. Memory: some MB,
        whatever the number (up to 100,000) and size of the files.

        Iterating raises ClientError: ``busy`` (another process uploads this folder), ``too_many_files``,
        ``source_unreadable``, ApiError, NetworkError once patience has run out; Stopped.
        """
        said = Said(declare(**declared), facility)
        root = os.fsdecode(folder)
        journal = Journal(key_of(self._url, root, said.body()), None if state_dir is None else os.fsdecode(state_dir))
        tools = Tools(
            self._new_transport,
            self._new_api,
            self._clock,
            self._hooks,
            self._patience_s,
            self._concurrency,
            self._max_part_size,
        )
        return BatchUpload(Run(root, said, tools, self._stop, journal, wait), journal)

    def resume(self, path: Path, *, wait: bool = True) -> Result:
        """Go on with the open session of this file. Raises NoSession if there is none.

        The session is found by fingerprint; every part that is there already is hashed again locally and
        compared before it is skipped.
        """
        (result,) = self._upload([item_of(path)], wait=wait, only_resume=True)
        if result.failure and result.failure["code"] == "no_session":
            raise NoSession(result.failure["message"])
        return result

    def _upload(self, items: Iterable[Item], *, wait: bool, only_resume: bool = False) -> Results:
        with self._run() as (api, transport, stop):
            yield from upload(
                items,
                api=api,
                transport=transport,
                pace=Pace(self._concurrency, self._clock),
                wait=wait,
                clock=self._clock,
                stop=stop,
                hooks=self._hooks,
                patience_s=self._patience_s,
                max_part_size=self._max_part_size,
                only_resume=only_resume,
            )

    # downloads

    def get(self, file_id: str, out: Path) -> Download:
        """Download a file, or an archive, to ``out`` by parallel ranged GETs; it appears only whole and proven.

        A download that was cut goes on from ``<out>.part``. Proven against the record: by SHA-256 where the
        server has proven it, by CRC-32 of the whole where known. Raises ChecksumMismatch, ApiError, StoreError.
        """
        try:
            record = self.file(file_id)
        except ApiError as error:
            if error.status != 404:
                raise
            return self._get_archive(file_id, out, error)
        path = f"/v1/files/{segment(file_id)}/content"
        return self._download(out, file_id, expected_of(record), path)

    def _get_archive(self, archive_id: str, out: Path, unknown: ApiError) -> Download:
        body = self._first_known(archive_id, ("archives",), unknown)
        return self._download_archive(body, out)

    def read(self, file_id: str, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of some (offset, length) of a stored file, one after the other, by ranged GETs with one URL.

        A range that passes the end gives what is there, as ``read`` of a file does; a cut GET goes on where it
        ended. Holds one range at a time. Raises ValueError for a negative number, ApiError, StoreError.
        """
        size = int(self.file(file_id)["size"])
        path = f"/v1/files/{segment(file_id)}/content"
        fetcher = self._fetcher(lambda: self._content_url(path))
        for offset, length in ranges:
            if offset < 0 or length < 0:
                raise ValueError(f"a range begins at 0 or later and has no negative length: ({offset}, {length})")
            found = bytearray()
            wanted = min(length, size - offset)
            if wanted > 0:
                fetcher.range_into(offset, wanted, found.extend)
            yield bytes(found)

    def thumbs(self, file_id: str, out_dir: Path) -> list[dict[str, Any]]:
        """Save the thumbnails of a file as ``<out_dir>/<size>.jpg``; their entries of the record, with ``path``."""
        record = self.file(file_id)
        folder = os.fsdecode(out_dir)
        os.makedirs(folder, exist_ok=True)
        saved = []
        for entry in record.get("thumbnails") or ():
            size = int(entry["size"])
            path = os.path.join(folder, f"{size}.jpg")
            data = self._fetcher(partial(self._thumbnail_url, file_id, size)).whole()
            with open(path + ".part", "wb") as part:
                part.write(data)
            os.replace(path + ".part", path)
            saved.append({name: value for name, value in entry.items() if name != "url"} | {"path": path})
        return saved

    def _thumbnail_url(self, file_id: str, size: int) -> SignedUrl:
        answer = self._api.call("GET", f"/v1/files/{segment(file_id)}")
        for entry in (answer.body or {}).get("thumbnails") or ():
            if entry.get("size") == size:
                return signed_url(entry, answer)
        raise AnswerError(f"the record no longer has a thumbnail of {size}")

    def report(self, file_id: str) -> Any:
        """The validation report of a file."""
        path = f"/v1/files/{segment(file_id)}/report"
        try:
            return json.loads(self._fetcher(lambda: self._content_url(path)).whole())
        except ValueError:
            raise AnswerError("the report is no JSON") from None

    # records

    def status(self, any_id: str) -> dict[str, Any]:
        """What is known about an id: the upload while bytes are on their way, then the file; or batch, or archive."""
        try:
            record = self.file(any_id)
        except ApiError as error:
            if error.status != 404:
                raise
            return self._first_known(any_id, ("batches", "archives"), error)
        if record.get("status") in STILL_UPLOADING:
            return self.session(any_id)
        return record

    def _first_known(self, any_id: str, kinds: Iterable[str], unknown: ApiError) -> dict[str, Any]:
        for kind in kinds:
            try:
                return self._body("GET", f"/v1/{kind}/{segment(any_id)}")
            except ApiError as error:
                if error.status != 404:
                    raise
        raise unknown

    def file(self, file_id: str) -> dict[str, Any]:
        """``GET /v1/files/{id}``."""
        return self._body("GET", f"/v1/files/{segment(file_id)}")

    def session(self, upload_id: str, *, parts: bool = False) -> dict[str, Any]:
        """``GET /v1/uploads/{id}``."""
        return self._body("GET", f"/v1/uploads/{segment(upload_id)}", query={"parts": "true" if parts else None})

    def ls(self, *, uploads: bool = False, limit: int | None = None, **filters: str | None) -> Iterator[dict[str, Any]]:
        """Files (or uploads) one by one, all pages; filters: status, kind, fingerprint, batch_id, logical_id."""
        token: str | None = None
        left = limit
        while left is None or left > 0:
            page = self.page(
                uploads=uploads, limit=None if left is None else min(left, PAGE_MAX), next_token=token, **filters
            )
            items = page.get("items") or []
            yield from items if left is None else items[:left]
            left = None if left is None else left - len(items)
            token = page.get("next_token")
            if not token:
                return

    def page(
        self,
        *,
        uploads: bool = False,
        limit: int | None = None,
        next_token: str | None = None,
        **filters: str | None,
    ) -> dict[str, Any]:
        """One page of a list: {"items", "next_token"}."""
        query = {"limit": limit, "next_token": next_token, **filters}
        return self._body("GET", "/v1/uploads" if uploads else "/v1/files", query=query)

    def cancel(self, any_id: str) -> dict[str, Any]:
        """Cancel an upload, a batch, or an archive that is being made."""
        unknown: ApiError | None = None
        for kind in ("uploads", "batches", "archives"):
            try:
                return self._body("DELETE", f"/v1/{kind}/{segment(any_id)}")
            except ApiError as error:
                if error.status != 404:
                    raise
                unknown = unknown or error
        raise unknown or AnswerError("nothing was asked")

    def retry(self, upload_id: str, *, force: bool = False, rules: Any = None) -> dict[str, Any]:
        """Run the failed stage of a file again."""
        body = {name: value for name, value in (("force", force or None), ("rules", rules)) if value is not None}
        return self._body("POST", f"/v1/uploads/{segment(upload_id)}/retry", body=body, once=True)

    def cleanup(self, hours_old: float) -> dict[str, Any]:
        """Delete failed uploads older than so many hours, all of them: {"deleted": n}.

        The API deletes as many as it can in one call and says whether there are ``more``.
        """
        deleted = 0
        while True:
            body = self._body("DELETE", "/v1/uploads", query={"status": "failed", "hours_old": f"{hours_old:g}"})
            deleted += int(body.get("deleted") or 0)
            if not body.get("more"):
                return {**body, "deleted": deleted}
            if self._stop.is_set():
                raise Stopped

    def delete_file(self, file_id: str) -> dict[str, Any]:
        """Delete a file with all that was made of it; its record stays for a while as ``deleted``."""
        return self._body("DELETE", f"/v1/files/{segment(file_id)}")

    def batch(self, batch_id: str, *, wait_s: float | None = None) -> dict[str, Any]:
        """``GET /v1/batches/{id}``; with ``wait_s`` (at most 25) once it has ended or that time is over."""
        return self._body("GET", f"/v1/batches/{segment(batch_id)}", query={"wait": wait_s})

    def batch_files(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """Every member of a batch with its verdict, by number, all pages."""
        token: str | None = None
        while True:
            query = {"limit": PAGE_MAX, "next_token": token}
            page = self._body("GET", f"/v1/batches/{segment(batch_id)}/files", query=query)
            yield from page.get("items") or ()
            token = page.get("next_token")
            if not token:
                return

    def stats(self) -> dict[str, Any]:
        """``GET /v1/stats``."""
        return self._body("GET", "/v1/stats")

    def health(self) -> dict[str, Any]:
        """``GET /v1/health``."""
        return self._body("GET", "/v1/health")

    def studies(self, *, batch_id: str | None = None, **filters: str | None) -> Any:
        """DICOM studies: QIDO-RS over all, page by page unless ``limit`` is given, or those of one batch."""
        if batch_id is not None:
            path, found, token = f"/v1/batches/{segment(batch_id)}/studies", [], None
            while True:
                page = self._body("GET", path, query={"limit": PAGE_MAX, "next_token": token})
                found += page.get("items") or ()
                token = page.get("next_token")
                if not token:
                    return {"items": found, "next_token": None}
        studies: list[Any] = []
        while True:
            offset = {"offset": str(int(filters.get("offset") or 0) + len(studies))} if studies else {}
            answer = self._api.call("GET", "/v1/dicomweb/studies", query={**filters, **offset})
            page = answer.body or ()  # 204: there are none
            studies += page
            if (
                not page
                or filters.get("limit") is not None
                or "additional results" not in answer.headers.get("warning", "")
            ):
                return studies

    # archives

    def archive(self, wanted: Mapping[str, Any], out: Path | None = None) -> dict[str, Any]:
        """Let a ZIP be made, wait for it, and download it to ``out`` if given; the archive's body, whatever its status.

        ``wanted``: {"file_ids" | "batch_id" | "logical_id" | "study_uid", "name"?, "package"?, "on_missing"?}. The
        hooks hear of both: bytes that are in their place in S3, then bytes that arrived. Killed, the same call gets
        the same archive, which is not built again, and goes on with what was downloaded.
        """
        body = self.begin_archive(wanted)
        meter = Meter(self._hooks)
        polls = 0
        while not body.get("final"):
            meter.saw(body)
            if self._clock.pause(self._stop, poll_s(polls)):
                raise Stopped
            polls += 1
            body = self.archive_status(str(body["archive_id"]))
        meter.saw(body)
        if out is not None and body.get("status") == "completed":
            self._hooks.on_listed(int(body["size"]))
            self._download_archive(body, out)
        return body

    def begin_archive(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a ZIP; its body, most likely ``queued``."""
        return self._body("POST", "/v1/archives", body=dict(wanted), once=True)

    def archive_status(self, archive_id: str) -> dict[str, Any]:
        """``GET /v1/archives/{id}``."""
        return self._body("GET", f"/v1/archives/{segment(archive_id)}")

    def archive_members(self, archive_id: str) -> Iterator[dict[str, Any]]:
        """What a finished archive holds, in its order, all pages."""
        token: str | None = None
        while True:
            query = {"limit": PAGE_MAX, "next_token": token}
            page = self._body("GET", f"/v1/archives/{segment(archive_id)}/members", query=query)
            yield from page.get("items") or ()
            token = page.get("next_token")
            if not token:
                return

    def get_member(self, archive_id: str, member: int | str, out: Path) -> Download:
        """Download one member of an archive, by its number (from 0) or its name in it, proven by its CRC-32.

        Only its own bytes are read. Raises ClientError ``no_such_member``.
        """
        number = member if isinstance(member, int) else self._member_number(archive_id, member)
        path = f"/v1/archives/{segment(archive_id)}/members/{number}/content"
        found = self._body("GET", path)
        expected = Expected(int(found["size"]), None, crc.parse(found.get("crc32")))
        return self._download(out, f"{archive_id}/{number}", expected, path, begins_at=int(found["offset"]))

    def _member_number(self, archive_id: str, name: str) -> int:
        for entry in self.archive_members(archive_id):
            if entry.get("name") == name:
                return int(entry["n"])
        raise ClientError("no_such_member", f"the archive has no member {name}")

    def _download_archive(self, body: Mapping[str, Any], out: Path) -> Download:
        if body.get("status") != "completed":
            raise ClientError("archive_not_ready", f"the archive is {body.get('status')}")
        archive_id = str(body["archive_id"])
        expected = Expected(int(body["size"]), None, crc.parse(body.get("crc32")))
        # The same files are the same bytes, whichever archive of them was asked for: a download that was cut goes on.
        content = f"archive of {expected.size} bytes, {body.get('crc32')}"
        return self._download(out, content, expected, f"/v1/archives/{segment(archive_id)}/content")

    # inside

    def _body(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        body = self._api.call(method, path, **how).body
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise AnswerError(f"{method} {path} answered no object")
        return body

    def _content_url(self, path: str) -> SignedUrl:
        answer = self._api.call("GET", path, query={"redirect": "false"})
        return signed_url(answer.body or {}, answer)

    def _fetcher(self, sign: Callable[[], SignedUrl]) -> Fetcher:
        return Fetcher(self._transport, sign, clock=self._clock, stop=self._stop, patience_s=self._patience_s)

    def _download(self, out: Path, object_id: str, expected: Expected, path: str, *, begins_at: int = 0) -> Download:
        name = os.fsdecode(out)
        if os.path.isdir(name):
            raise ClientError("is_a_folder", f"{name} is a folder; give the name of a file")
        with self._run() as (api, transport, stop):

            def sign() -> SignedUrl:
                answer = api.call("GET", path, query={"redirect": "false"})
                return signed_url(answer.body or {}, answer)

            return download(
                name,
                object_id,
                expected,
                Fetcher(
                    transport,
                    sign,
                    clock=self._clock,
                    stop=stop,
                    patience_s=self._patience_s,
                    begins_at=begins_at,
                ),
                transport=transport,
                concurrency=self._concurrency or DOWNLOAD_CONCURRENCY,
                stop=stop,
                hooks=self._hooks,
            )

    @contextmanager
    def _run(self) -> Iterator[tuple[Api, Transport, threading.Event]]:
        """What one upload or download works with, of its own: stopping it cuts its connections."""
        if self._stop.is_set():
            raise Stopped
        stop = threading.Event()
        transport = self._new_transport()
        self._running.add(stop)
        try:
            yield self._new_api(transport, stop), transport, stop
        finally:
            self._running.discard(stop)

    def _new_transport(self) -> Transport:
        return Transport(timeout_s=self._timeout_s, ssl_context=self._ssl_context)

    def _new_api(self, transport: Transport, stop: threading.Event) -> Api:
        return Api(
            self._url,
            self._token,
            transport,
            patience_s=self._patience_s,
            clock=self._clock,
            stop=stop,
            notice=self._hooks.notice,
        )


def declare(
    *,
    kind: str | None = None,
    type: str | None = None,
    data_type: str | None = None,
    description: str | None = None,
    logical_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    rules: Any = None,
) -> Declared:
    """What the caller says about files; ``logical_id`` travels in the metadata."""
    said = dict(metadata or {})
    if logical_id is not None:
        said["logical_id"] = logical_id
    return Declared(kind, type, data_type, description, said, rules)
