"""One batch from a folder to its verdicts.

    list     the folder into a file, beside it the journal of an earlier run
    begin    POST /v1/batches, or go on with the journal's
    send     hash a page, put it into the manifest, sign and send its small members; larger ones are upload sessions
    complete POST, then ?wait= until the batch has ended
    report   every member's verdict, page by page

A batch that was cut at any moment goes on when the same folder is uploaded again: members in the journal are not sent
again, so that a kill costs at most what was on the wire. Memory does not depend on the number or the size of files, but
for one byte a member.
"""

from __future__ import annotations

import base64
import hashlib
import os
import queue
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from heavylift_client.api import Api, ApiError, segment
from heavylift_client.backoff import Clock, poll_s
from heavylift_client.batches import pages
from heavylift_client.batches.journal import Done, Journal, Page
from heavylift_client.batches.lane import STORED, Counts, Lane, check_unchanged, open_member
from heavylift_client.batches.listing import Listed, read_listing, write_listing
from heavylift_client.batches.pages import Member, member_id
from heavylift_client.errors import AnswerError, ClientError, SourceChanged, Stopped
from heavylift_client.pace import FIRST, FIRST_SMALL, Pace
from heavylift_client.results import Result
from heavylift_client.sources import READ_BYTES, Declared, Item, Membership, clean, label, unreadable
from heavylift_client.transfers import Hooks
from heavylift_client.transport import Transport
from heavylift_client.upload import upload

HASHERS = 2  # see upload.HASHERS
JOIN_S = 5.0
WAIT_S = 20  # of one GET ?wait=: the API allows 25, the gateway 30
FILES_PAGE = 100  # the API's limit
STORED_BEFORE = 1
# The batch takes no more files: somebody cancelled or completed it, or its time is over. Its record says which.
CLOSED_CODES = frozenset({"state_conflict", "batch_expired"})


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with; transports and APIs of its own, so that stopping it cuts its connections only."""

    new_transport: Callable[[], Transport]
    new_api: Callable[[Transport, threading.Event], Api]
    clock: Clock
    hooks: Hooks
    patience_s: float
    concurrency: int | None
    max_part_size: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What the caller says about a batch: its kind, whose it is, what holds for all of its files."""

    declared: Declared
    facility: str | None = None

    def body(self) -> dict[str, Any]:
        """The fields for POST /v1/batches. What a batch has no field for goes into its metadata."""
        declared = self.declared
        more = {"data_type": declared.data_type, "description": declared.description, "type": declared.type}
        metadata = {**declared.metadata, **{name: value for name, value in more.items() if value is not None}}
        given = {
            "kind": declared.kind or "other",
            "mode": "put",
            "facility": self.facility,
            "metadata": metadata or None,
            "rules": declared.rules,
        }
        return {name: clean(value) for name, value in given.items() if value is not None}


@dataclass(slots=True)
class Run:
    """One run. ``results`` drives it; the other fields tell how it goes."""

    root: str
    said: Said
    tools: Tools
    stop: threading.Event
    journal: Journal
    wait: bool = True
    batch_id: str | None = None
    record: dict[str, Any] | None = None
    """The batch as the API last told it."""
    counts: Counts = field(default_factory=Counts)
    troubles: list[str] = field(default_factory=list)
    """Folders that could not be listed."""
    _failures: dict[int, ClientError] = field(default_factory=dict)
    _large: dict[int, Result] = field(default_factory=dict)

    # the whole

    def results(self) -> Generator[Result, None, None]:
        """Every member's result, in the order of the manifest, once the batch has ended. Raises ClientError."""
        listed = self._list()
        if not listed.total:
            self.tools.hooks.notice(f"{label(self.root)}: there are no files in this folder")
            self.journal.forget()
            return
        if listed.total > pages.FILES_MAX:
            self.journal.forget()
            raise ClientError(
                "too_many_files",
                f"the folder holds {listed.total} files, a batch takes {pages.FILES_MAX}: upload its subfolders",
            )
        self.tools.hooks.on_listed(listed.bytes)
        done = self._known(listed)
        transport = self.tools.new_transport()
        try:
            api = self.tools.new_api(transport, self.stop)
            done = self._begin(api, done, listed)
            if self._is_open() and not done.completed:
                self._send(done, listed)
                self._complete(api)
            if self.wait:
                self._wait_for_end(api)
                yield from self._verdicts(api, done)
            else:
                self._look(api)
                yield from self._arrivals(done)
            self.journal.forget()
        finally:
            transport.close()

    @property
    def ok(self) -> bool:
        """Whether all ended well, as far as it was waited for."""
        if self.troubles or self._failures or any(not result.ok for result in self._large.values()):
            return False
        return self.record is None or not self.wait or bool(self.record.get("status") == "completed")

    # list and begin

    def _list(self) -> Listed:
        def trouble(prefix: str, error: OSError) -> None:
            self.troubles.append(prefix)
            self.tools.hooks.notice(f"{label(prefix)}: this folder cannot be read: {error.strerror}")

        with open(self.journal.files + ".new", "w", encoding="ascii") as out:
            listed = write_listing(self.root, out, trouble)
        os.replace(self.journal.files + ".new", self.journal.files)
        return listed

    def _known(self, listed: Listed) -> Done:
        """What an earlier run did with this very folder, else a new beginning."""
        done = self.journal.read(listed.total)
        if done is not None and done.listing == listed.digest:
            return done
        if done is not None and done.batch_id is not None:
            self.tools.hooks.notice(
                f"the folder has changed since batch {done.batch_id} was begun, so a new one begins; "
                f"the old one can be cancelled"
            )
        return self._anew(listed)

    def _anew(self, listed: Listed) -> Done:
        done = Done(listed.digest, str(uuid.uuid4()), stored=bytearray(listed.total))
        self.journal.begin(done.listing, done.request_key)
        return done

    def _begin(self, api: Api, done: Done, listed: Listed) -> Done:
        if done.batch_id is not None:
            if self._goes_on(api, done.batch_id):
                self.batch_id = done.batch_id
                count = done.stored.count(STORED_BEFORE)
                self.tools.hooks.notice(f"going on with batch {done.batch_id}: {count} files are there already")
                return done
            done = self._anew(listed)
        # Killed before the answer was noted, the same key finds the same batch.
        answer = api.call("POST", "/v1/batches", body={**self.said.body(), "total": listed.total}, key=done.request_key)
        self.batch_id = (answer.body or {}).get("batch_id")
        if not self.batch_id:
            raise AnswerError("the API gave no batch_id")
        done.batch_id = self.batch_id
        self.journal.begun(self.batch_id)
        self.record = dict(answer.body)
        return done

    def _goes_on(self, api: Api, batch_id: str) -> bool:
        """Whether an earlier run's batch is still what the caller wants."""
        try:
            self.record = api.call("GET", f"/v1/batches/{segment(batch_id)}").body or {}
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        if self.record.get("status") in ("cancelled", "expired"):
            self.tools.hooks.notice(f"batch {batch_id} is {self.record['status']}, so a new one begins")
            return False
        return True

    def _is_open(self) -> bool:
        return self.record is None or self.record.get("status", "open") == "open"

    # send

    def _send(self, done: Done, listed: Listed) -> None:
        """All that is not there yet. Raises Stopped, ClientError; a batch that takes no more files is no error."""
        stop = threading.Event()
        transport, for_large = self.tools.new_transport(), self.tools.new_transport()
        api = self.tools.new_api(transport, stop)
        has_large = listed.bytes > listed.small_bytes
        pace = Pace(self.tools.concurrency, self.tools.clock, first=FIRST if has_large else FIRST_SMALL)
        lane = Lane(
            str(self.batch_id),
            self.root,
            api,
            transport,
            self.journal,
            pace,
            self.tools.clock,
            stop,
            self.tools.hooks,
            self.tools.patience_s,
            self._fail,
            done.stored,
            self.counts,
        )
        large: queue.SimpleQueue[Item | None] = queue.SimpleQueue()

        def send_large() -> None:
            items = _items(large, stop)
            first = next(items, None)  # most folders have none: then no threads are started for them
            if first is not None:
                self._send_large(chain([first], items), for_large, stop, pace, done)

        def feed() -> None:
            try:
                self._feed(done, listed, api, lane, large, stop)
            finally:
                lane.close()
                large.put(None)

        def cut() -> None:
            transport.abort()
            for_large.abort()

        work: list[Callable[[], None]] = [feed, lane.sign, send_large]
        work += [lane.send] * min(pace.most, listed.total)
        try:
            _together(work, stop, self.stop, lane.wake, cut)
        except ApiError as error:
            if error.status not in (404, 409, 410) or error.code not in CLOSED_CODES:
                raise
            self.tools.hooks.notice(f"the batch takes no more files: {error.message}")
        finally:
            transport.close()
            for_large.close()

    def _feed(
        self,
        done: Done,
        listed: Listed,
        api: Api,
        lane: Lane,
        large: queue.SimpleQueue[Item | None],
        stop: threading.Event,
    ) -> None:
        """Pages into the manifest, their members to whoever sends them; the next page is hashed meanwhile."""
        resumed = bool(done.pages)
        filled = self._filled_pages(done, listed, stop)
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(next, filled, None)
            while (found := following.result()) is not None:
                page, members = found
                following = ahead.submit(next, filled, None)
                if page.number not in done.listed:
                    self._list_page(api, page, members)
                for member in members:
                    if member.is_small or done.stored[member.n] or member.n in self._failures:
                        continue
                    known = Membership(str(self.batch_id), member.n, member.size, member.mtime_ns, begun=resumed)
                    path = os.path.join(self.root, member.path)
                    large.put(Item(path, _name(member), self.said.declared, label(member.path), known))
                self._tell_resumed(members, done)
                small = [m for m in members if m.is_small and m.sha256 and not done.stored[m.n]]
                if not lane.add(small):
                    raise Stopped

    def _tell_resumed(self, members: list[Member], done: Done) -> None:
        size = sum(member.size for member in members if done.stored[member.n] == STORED_BEFORE)
        if size:
            self.tools.hooks.on_resumed(size)

    def _filled_pages(self, done: Done, listed: Listed, stop: threading.Event) -> Iterator[tuple[Page, list[Member]]]:
        """All pages of the manifest: those that the journal knows, then new ones."""
        listing = read_listing(self.journal.files)
        number = 0
        for at, *_ in done.pages:
            page = self.journal.page(at)
            members = list(islice(listing, page.count))
            for member, sha256 in zip(members, page.sha256, strict=True):
                member.sha256 = sha256
                if member.is_small and sha256 is None and not done.stored[member.n]:
                    self._fail(member, SourceChanged("the file could not be read when its batch was begun"))
            number = page.number + 1
            yield page, members
        with ThreadPoolExecutor(HASHERS) as hashers:
            while members := _one_page(listing, listed.small_bytes):
                list(hashers.map(lambda member: self._hash(member, stop), members))
                page = Page(number, members[0].n, len(members), [member.sha256 for member in members])
                self.journal.hashed(page)
                number += 1
                yield page, members

    def _hash(self, member: Member, stop: threading.Event) -> None:
        if stop.is_set():
            raise Stopped
        if not member.is_small:
            return
        try:
            member.sha256 = member_sha256(self.root, member)
        except ClientError as error:
            self._fail(member, error)

    def _list_page(self, api: Api, page: Page, members: list[Member]) -> None:
        entries = [pages.manifest_entry(member, _name(member), label(member.path)) for member in members]
        path = f"/v1/batches/{segment(str(self.batch_id))}/manifest/{page.number}"
        api.call("PUT", path, body={"entries": entries})
        self.journal.listed(page.number)

    def _send_large(
        self, items: Iterator[Item], transport: Transport, stop: threading.Event, pace: Pace, done: Done
    ) -> None:
        results = upload(
            items,
            api=self.tools.new_api(transport, stop),
            transport=transport,
            pace=pace,
            wait=False,
            clock=self.tools.clock,
            stop=stop,
            hooks=self.tools.hooks,
            patience_s=self.tools.patience_s,
            max_part_size=self.tools.max_part_size,
        )
        for result in results:
            n = -1 if result.n is None else result.n
            self._large[n] = result
            if result.failure is None:
                done.stored[n] = STORED
                self.journal.stored(n)
            else:
                self._failures[n] = ClientError(str(result.failure["code"]), str(result.failure["message"]))

    def _fail(self, member: Member, error: ClientError) -> None:
        self._failures[member.n] = error
        self.tools.hooks.notice(f"{label(member.path)}: {error}")

    # complete and wait

    def _complete(self, api: Api) -> None:
        try:
            answer = api.call("POST", f"/v1/batches/{segment(str(self.batch_id))}/complete", body={})
            self.record = answer.body or {}
        except ApiError as error:
            if error.code not in CLOSED_CODES:
                raise
            self._look(api)
        self.journal.completed()

    def _look(self, api: Api, wait_s: int | None = None) -> dict[str, Any]:
        path = f"/v1/batches/{segment(str(self.batch_id))}"
        body = api.call("GET", path, query={"wait": wait_s}).body
        if not isinstance(body, dict):
            raise AnswerError("the API said nothing about the batch")
        self.record = body
        return body

    def _wait_for_end(self, api: Api) -> None:
        polls = 0
        while True:
            asked_at = self.tools.clock.now()
            if self._look(api, WAIT_S).get("final"):
                break
            # A server that waits for us needs no pause of ours.
            if self.tools.clock.now() - asked_at < WAIT_S / 2:
                if self.tools.clock.pause(self.stop, poll_s(polls)):
                    raise Stopped
                polls += 1
            if self.stop.is_set():
                raise Stopped
        if self.record is not None:
            self.record.pop("files", None)  # comes with ?wait= only; it is told line by line

    # report

    def _verdicts(self, api: Api, done: Done) -> Iterator[Result]:
        listing = read_listing(self.journal.files)
        member: Member | None = None
        for entry in self._entries(api):
            n = int(entry["n"])
            while member is None or member.n < n:
                member = next(listing, None)
                if member is None:
                    break
            yield self._result(entry, n, member if member is not None and member.n == n else None, done)

    def _entries(self, api: Api) -> Iterator[Mapping[str, Any]]:
        token: str | None = None
        path = f"/v1/batches/{segment(str(self.batch_id))}/files"
        while True:
            body = api.call("GET", path, query={"limit": FILES_PAGE, "next_token": token}).body or {}
            yield from body.get("items") or ()
            token = body.get("next_token")
            if not token:
                return

    def _result(self, entry: Mapping[str, Any], n: int, member: Member | None, done: Done) -> Result:
        file_id = str(entry.get("file_id") or member_id(str(self.batch_id), n))
        failure: dict[str, Any] | None = None
        if entry.get("code"):
            failure = {"code": entry["code"], "message": entry.get("message") or "the API gave no reason"}
        # What went wrong here says more than that the file never arrived.
        ours = self._failures.get(n)
        if ours is not None and entry.get("verdict") != "completed":
            failure = {"code": ours.code, "message": ours.message}
        path = str(entry.get("relative_path") or entry.get("name") or "") if member is None else member.path
        return Result(
            os.path.join(self.root, path),
            str(entry.get("name") or os.path.basename(path)),
            str(entry.get("verdict") or entry.get("status")),
            upload_id=file_id,
            file_id=file_id,
            kind=entry.get("kind"),
            size=entry.get("size") if member is None else member.size,
            failure=failure,
            relative_path=entry.get("relative_path") or label(path),
            record=entry,
            **self._moved(n, member, done),
        )

    def _moved(self, n: int, member: Member | None, done: Done) -> dict[str, Any]:
        """What became of a member's bytes in this run."""
        facts: dict[str, Any] = {"batch_id": self.batch_id, "n": n}
        large = self._large.get(n)
        if large is not None:
            facts |= {
                "bytes_sent": large.bytes_sent,
                "bytes_resumed": large.bytes_resumed,
                "upload_s": large.upload_s,
            }
        elif member is not None and done.stored[n] == STORED:
            facts["bytes_sent"] = member.size
        elif member is not None and done.stored[n] == STORED_BEFORE:
            facts["bytes_resumed"] = member.size
        return facts

    def _arrivals(self, done: Done) -> Iterator[Result]:
        """What is known without waiting: which members are in the store."""
        for member in read_listing(self.journal.files):
            file_id = member_id(str(self.batch_id), member.n)
            ours = self._failures.get(member.n)
            large = self._large.get(member.n)
            status = large.status if large is not None else "staged" if done.stored[member.n] else "failed"
            failure = None if ours is None else {"code": ours.code, "message": ours.message}
            yield Result(
                os.path.join(self.root, member.path),
                _name(member),
                "failed" if failure else status,
                upload_id=file_id,
                file_id=file_id,
                kind=self.said.declared.kind,
                size=member.size,
                failure=failure,
                relative_path=label(member.path),
                waited=False,
                **self._moved(member.n, member, done),
            )


def member_sha256(root: str, member: Member) -> str:
    """Base64 SHA-256 of a small member, 1 MiB at a time. Raises SourceChanged, SourceError."""
    fd = open_member(root, member)
    try:
        digest = hashlib.sha256()
        left = member.size
        while left:
            try:
                data = os.read(fd, min(READ_BYTES, left))
            except OSError as error:
                raise unreadable(error) from None
            if not data:
                raise SourceChanged(f"the file ends {left} bytes early")
            digest.update(data)
            left -= len(data)
        check_unchanged(fd, member)
    finally:
        os.close(fd)
    return base64.b64encode(digest.digest()).decode()


def _name(member: Member) -> str:
    return label(member.path.rpartition("/")[2])


def _one_page(listing: Iterator[Member], small_bytes: int) -> list[Member]:
    filling = pages.Filling(small_bytes)
    members: list[Member] = []
    for member in listing:
        members.append(member)
        filling.add(member)
        if filling.is_full:
            break
    return members


def _items(large: queue.SimpleQueue[Item | None], stop: threading.Event) -> Iterator[Item]:
    while not stop.is_set():
        try:
            item = large.get(timeout=0.5)
        except queue.Empty:
            continue
        if item is None:
            return
        yield item


def _together(
    work: list[Callable[[], None]],
    stop: threading.Event,
    outer: threading.Event,
    wake: Callable[[], None],
    cut: Callable[[], None],
) -> None:
    """Run all of ``work`` in threads until all are done; the first error stops the rest and is raised.

    Raises Stopped when ``outer`` was set from elsewhere. ``wake`` and ``cut`` end what threads wait for.
    """
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def guarded(do: Callable[[], None]) -> None:
        try:
            do()
            ends.put(None)
        except BaseException as error:  # noqa: BLE001  raised again below
            ends.put(error)

    def end() -> None:
        stop.set()
        wake()
        cut()

    threads = [threading.Thread(target=guarded, args=(do,), daemon=True) for do in work]
    for thread in threads:
        thread.start()
    first: BaseException | None = None
    running = len(threads)
    try:
        while running:
            try:
                # A time limit, because a wait without one would not notice Ctrl-C on every platform.
                error = ends.get(timeout=0.5)
            except queue.Empty:
                if outer.is_set() or first is not None:
                    end()
                continue
            running -= 1
            if error is not None:
                first = error if first is None or isinstance(first, Stopped) else first
                end()
    finally:
        if running:
            end()
        for thread in threads:
            thread.join(JOIN_S)
    if outer.is_set():
        raise Stopped
    if first is not None:
        raise first
