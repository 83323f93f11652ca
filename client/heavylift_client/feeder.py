"""Opens sessions for files: looks at each, goes on with an open session where there is one, else opens new ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from heavylift_client import plan as plans
from heavylift_client.api import Answer, Api, ApiError, segment
from heavylift_client.backoff import Clock
from heavylift_client.board import Board
from heavylift_client.errors import AnswerError, ClientError, NoSession, SourceChanged, SourceError, Stopped
from heavylift_client.fingerprint import fingerprint
from heavylift_client.plan import Part, PartPlan, Received
from heavylift_client.results import Result
from heavylift_client.sources import Item, Membership, Source, look, opened, part_sha256
from heavylift_client.transfers import Hooks, Transfer, failed, signed_url

CANDIDATES_MAX = 5  # open sessions of one file that are worth a look
READERS = 2  # see upload.HASHERS


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that is ready to be announced; ``sha256`` is base64, of small files only."""

    item: Item
    source: Source
    entry: dict[str, Any]
    sha256: str | None

    @property
    def weight(self) -> plans.Weight:
        """What it adds to an initiate call."""
        hashed = self.source.size if self.sha256 is not None else 0
        return plans.Weight(hashed, len(json.dumps(self.entry)))


@dataclass(slots=True)
class Feeder:
    """Feeds one run's board."""

    api: Api
    board: Board
    clock: Clock
    hooks: Hooks
    max_part_size: int | None = None
    only_resume: bool = False

    def feed(self, items: Iterable[Item]) -> None:
        """All items, in order, no faster than they are sent; returns when all have ended. Raises Stopped."""
        group: list[Prepared] = []
        for item in items:
            if not self.board.room():
                raise Stopped
            prepared = self._prepare(item, fresh=False)
            if prepared is None:
                continue
            if plans.group_is_full([p.weight for p in group], prepared.weight):
                self._initiate(group)
                group = []
            group.append(prepared)
            # A large file does not wait for company: its parts keep everybody busy.
            if prepared.sha256 is None or plans.group_is_full([p.weight for p in group]):
                self._initiate(group)
                group = []
        if group:
            self._initiate(group)
        while (item_again := self.board.next_restart()) is not None:
            prepared = self._prepare(item_again, fresh=True)
            if prepared is not None:
                self._initiate([prepared])
            self.board.restarted()

    def _prepare(self, item: Item, *, fresh: bool) -> Prepared | None:
        """What to announce for a file; None if it ended here or goes on with an open session."""
        try:
            if self.board.hopeless is not None:
                raise self.board.hopeless
            source = look(item.path)
            if item.member is not None:
                return self._prepare_member(item, item.member, source, fresh=fresh)
            entry: dict[str, Any] = {"client_id": "", "name": item.name, "size": source.size, "checksum": "sha256"}
            entry |= item.declared.entry()
            if item.relative_path is not None:
                entry["relative_path"] = item.relative_path
            if source.size <= plans.SINGLE_PUT_MAX_BYTES:
                if self.only_resume:
                    raise NoSession("a file of up to 16 MiB goes up in one piece; there is nothing to resume")
                digest = part_sha256(source, Part(1, 0, source.size), self.board.stop)
                return Prepared(item, source, entry | {"sha256": digest}, digest)
            mark = _fingerprint(source)
            if not fresh and self._go_on(item, source, mark):
                return None
            if self.only_resume:
                raise NoSession("no open upload session fits this file")
            return Prepared(item, source, entry | {"fingerprint": mark}, None)
        except Stopped:
            raise
        except ClientError as error:
            self.board.never_began(item, error)
            return None

    def _prepare_member(self, item: Item, member: Membership, source: Source, *, fresh: bool) -> Prepared | None:
        """The same for a member of a batch: its id is known, so nothing has to be searched for."""
        if (source.size, source.mtime_ns) != (member.size, member.mtime_ns):
            raise SourceChanged("the file changed while its batch was being uploaded")
        if member.begun and not fresh and self._go_on_member(item, member, source):
            return None
        entry: dict[str, Any] = {"client_id": "", "name": item.name, "size": source.size, "checksum": "sha256"}
        entry |= {"batch_id": member.batch_id, "n": member.n} | item.declared.entry()
        if item.relative_path is not None:
            entry["relative_path"] = item.relative_path
        return Prepared(item, source, entry, None)

    # going on

    def _go_on_member(self, item: Item, member: Membership, source: Source) -> bool:
        """Go on with what an earlier run of the batch sent of this file; False if there is nothing yet."""
        upload_id = f"{member.batch_id}-{member.n:06d}"
        try:
            record = self.api.call("GET", f"/v1/uploads/{segment(upload_id)}", query={"parts": "true"}).body or {}
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        status = str(record.get("status"))
        if status == "created":
            return False
        if status != "uploading":
            ended = Result(
                item.path,
                item.name,
                status,
                upload_id=upload_id,
                file_id=upload_id,
                size=source.size,
                relative_path=item.relative_path,
                bytes_resumed=source.size,
                waited=False,
                batch_id=member.batch_id,
                n=member.n,
            )
            self.hooks.on_resumed(source.size)
            self.board.results.put(ended)
            return True
        fit = plans.joinable(record, source.size)
        if fit is None or not self._same_bytes(source, fit[1]):
            raise SourceChanged("the file is not the one of which parts were uploaded before")
        self._join(item, source, upload_id, *fit)
        return True

    def _go_on(self, item: Item, source: Source, mark: str) -> bool:
        """Go on with an open session of this very file, if there is one. Received parts are proven first."""
        query = {"fingerprint": mark, "status": "uploading", "limit": CANDIDATES_MAX}
        listed = self.api.call("GET", "/v1/uploads", query=query).body or {}
        for candidate in listed.get("items", ())[:CANDIDATES_MAX]:
            upload_id = candidate.get("upload_id")
            if not upload_id or self.board.is_mine(upload_id) or candidate.get("size", source.size) != source.size:
                continue
            try:
                record = self.api.call("GET", f"/v1/uploads/{segment(upload_id)}", query={"parts": "true"}).body
            except ApiError as error:
                if error.status == 404:
                    continue
                raise
            fit = plans.joinable(record or {}, source.size)
            if fit is None:
                continue
            plan, received = fit
            if not self._same_bytes(source, received):
                self.hooks.notice(f"{item.name}: an open upload of another version of this file is left alone")
                continue
            self._join(item, source, upload_id, plan, received)
            return True
        return False

    def _same_bytes(self, source: Source, received: list[Received]) -> bool:
        """Whether every received part is what the local file holds there."""
        differs = threading.Event()

        def same(have: Received) -> bool:
            if not differs.is_set() and part_sha256(source, have.part, self.board.stop) != have.sha256:
                differs.set()
            return not differs.is_set()

        with ThreadPoolExecutor(READERS) as pool:
            return all(list(pool.map(same, received)))

    def _join(self, item: Item, source: Source, upload_id: str, plan: PartPlan, received: list[Received]) -> None:
        transfer = Transfer(item, source, upload_id, plan, False, self.clock.now())
        transfer.sha256 = {have.part.number: have.sha256 for have in received}
        transfer.bytes_resumed = sum(have.part.size for have in received)
        self.hooks.on_resumed(transfer.bytes_resumed)
        self.hooks.notice(f"{item.name}: resuming, {len(received)} of {plan.part_count} parts are there already")
        self.board.start(transfer, [n for n in range(1, plan.part_count + 1) if n not in transfer.sha256])

    # new sessions

    def _initiate(self, group: list[Prepared]) -> None:
        files = [prepared.entry | {"client_id": str(number)} for number, prepared in enumerate(group)]
        body: dict[str, Any] = {"files": files}
        if self.max_part_size is not None:
            body["max_part_size"] = self.max_part_size
        try:
            if self.board.hopeless is not None:
                raise self.board.hopeless
            answer = self.api.call("POST", "/v1/uploads", body=body, once=True)
        except Stopped:
            raise
        except ClientError as error:
            # One entry that breaks the schema spoils the call for all: find it.
            if isinstance(error, ApiError) and error.status in (400, 413, 422) and len(group) > 1:
                for half in plans.halves(group):
                    self._initiate(list(half))
                return
            for prepared in group:
                self.board.never_began(prepared.item, error, prepared.source.size)
            return
        answers = {str(entry.get("client_id")): entry for entry in (answer.body or {}).get("uploads", ())}
        for number, prepared in enumerate(group):
            try:
                self._announced(prepared, answers.get(str(number)), answer)
            except AnswerError as error:
                self.board.never_began(prepared.item, error, prepared.source.size)

    def _announced(self, prepared: Prepared, entry: Mapping[str, Any] | None, answer: Answer) -> None:
        if entry is None:
            raise AnswerError("the API said nothing about this file")
        if entry.get("problem"):
            self.board.results.put(_refused(prepared, entry["problem"]))
            return
        if not entry.get("upload_id"):
            raise AnswerError("the API gave no upload_id")
        plan = plans.plan_parts(prepared.source.size, entry.get("part_size"), entry.get("part_count"))
        single = entry.get("mode") == "single"
        if single and plan.part_count != 1:
            raise AnswerError(f"a single PUT in {plan.part_count} parts")
        transfer = Transfer(prepared.item, prepared.source, entry["upload_id"], plan, single, self.clock.now())
        if prepared.sha256 is not None and plan.part_count == 1:
            transfer.sha256[1] = prepared.sha256
        put = entry.get("put")
        self.board.start(
            transfer, list(range(1, plan.part_count + 1)), None if put is None else signed_url(put, answer)
        )


def _refused(prepared: Prepared, problem: Mapping[str, Any]) -> Result:
    """A file that the server will not take."""
    message = problem.get("detail") or problem.get("title") or problem.get("message") or "the API gave no reason"
    error = ClientError(str(problem.get("code", "refused")), str(message))
    return failed(prepared.item, error, prepared.source.size, status="rejected")


def _fingerprint(source: Source) -> str:
    try:
        with opened(source):
            return fingerprint(source.path)
    except (OSError, EOFError) as error:
        raise SourceError("source_unreadable", f"the file cannot be read: {error}") from None
