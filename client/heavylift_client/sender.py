"""Signs, sends and completes: what the threads of an upload do with the work they find on the board."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from heavylift_client import plan as plans
from heavylift_client.api import Api, ApiError, segment
from heavylift_client.backoff import Clock, pause_s, poll_s, retry_after_s
from heavylift_client.board import Board
from heavylift_client.errors import (
    AnswerError,
    ChecksumMismatch,
    ClientError,
    NetworkError,
    Stopped,
    StoreError,
)
from heavylift_client.plan import Part
from heavylift_client.sources import check_unchanged, opened, part_sha256
from heavylift_client.transfers import Hooks, Job, SignedUrl, Transfer, outcome, signed_url
from heavylift_client.transport import Transport
from heavylift_client.verdict import Act, Answer, Tries, asks_for_less, in_words, judge, read_answer

MISSING_ROUNDS_MAX = 3
ASKS_MAX = 3
ASSEMBLING_S = 1.0  # between two looks when a 202 names no time
# The parts are gone from the store: only a new session helps (S3's code, and the API's).
LOST_CODES = frozenset({"NoSuchUpload", "upload_expired"})
# Which member of a refused complete names the parts to send again.
SEND_AGAIN = {"parts_missing": "missing", "part_mismatch": "parts"}
# The session still wants bytes; any other status means that they are all there, or no longer wanted.
BYTES_WANTED = frozenset({"created", "uploading"})


@dataclass(slots=True)
class Sender:
    """Thread-safe; all state is on the board."""

    api: Api
    transport: Transport
    board: Board
    clock: Clock
    hooks: Hooks
    patience_s: float
    wait: bool

    # loops, one per thread; all raise Stopped

    def hash_parts(self) -> None:
        """SHA-256 of the next parts, until there are none."""
        while (work := self.board.part_to_hash()) is not None:
            transfer, part = work
            try:
                self.board.hashed(transfer, part.number, part_sha256(transfer.source, part, self.board.stop))
            except ClientError as error:
                self._part_failed(transfer, error)

    def sign_parts(self) -> None:
        """URLs for what is hashed."""
        while (work := self.board.parts_to_sign()) is not None:
            transfer, numbers = work
            try:
                urls = self._sign(transfer, {n: self.board.digest(transfer, n) for n in numbers})
                self.board.signed([Job(transfer, n, urls[n], twice) for n, twice in numbers.items()])
            except ClientError as error:
                self._part_failed(transfer, error)

    def send_parts(self) -> None:
        """One part after the other."""
        while (job := self.board.job()) is not None:
            try:
                self._send(job)
            except ClientError as error:
                self._part_failed(job.transfer, error)

    def finish_files(self) -> None:
        """Files whose bytes are all there: complete, then wait for the verdict."""
        while (transfer := self.board.file_due()) is not None:
            try:
                if transfer.step == "complete":
                    self._complete(transfer)
                else:
                    self._poll(transfer)
            except ClientError as error:
                self._refused(transfer, error)

    def _part_failed(self, transfer: Transfer, error: ClientError) -> None:
        # Once the file wants no more parts, what becomes of one of them is of no interest.
        if isinstance(error, Stopped) or not self.board.over(transfer):
            self._refused(transfer, error)

    def _refused(self, transfer: Transfer, error: ClientError) -> None:
        # Somebody else completed or cancelled this upload, or its time ran out. What became of it is the answer.
        if isinstance(error, ApiError) and error.status in (409, 410) and transfer.step == "complete":
            try:
                self._ask(transfer, error)
            except ClientError as second:
                self._failed(transfer, second)
        else:
            self._failed(transfer, error)

    def _failed(self, transfer: Transfer, error: ClientError) -> None:
        if isinstance(error, Stopped):
            raise error
        self.board.fail(transfer, error)

    # signing

    def _sign(self, transfer: Transfer, digests: dict[int, str]) -> dict[int, SignedUrl]:
        parts = [
            {"part_number": n, "sha256": digest, "size": transfer.plan.part(n).size} for n, digest in digests.items()
        ]
        answer = self.api.call("POST", f"/v1/uploads/{segment(transfer.upload_id)}/parts", body={"parts": parts})
        urls = {entry.get("part_number"): signed_url(entry, answer) for entry in (answer.body or {}).get("parts", ())}
        if not all(n in urls for n in digests):
            raise AnswerError("the API did not sign every part")
        return urls

    # sending

    def _send(self, job: Job) -> None:
        """One part until it is stored. Raises when it cannot be: a loop that ran out must not count as success."""
        transfer, signed = job.transfer, job.signed
        part = transfer.plan.part(job.number)
        tries, failing_since = Tries(), 0.0
        while True:
            began = self.clock.now()
            answer = self._put(transfer, part, signed)
            if self.board.stop.is_set():
                raise Stopped
            if not tries.total:
                failing_since = began
            act = judge(answer, tries, self.clock.now() - failing_since, self.patience_s)
            tries = tries.after(act, answer)
            if act is Act.STORED:
                self.board.stored(transfer)
                return
            if act is Act.FAIL:
                raise StoreError(answer.status, answer.code or "network", in_words(answer))
            if act is Act.ASK:
                self._ask(transfer, StoreError(answer.status, answer.code, in_words(answer)))
                return
            if self.board.over(transfer):
                return
            # The first new signature is asked for at once: an old URL says nothing about load.
            if act is not Act.SIGN_AGAIN or tries.sign_again > 1:
                self._pause(tries.total - 1, answer.retry_after)
            if act is Act.HASH_AGAIN:
                self.board.rehashed(transfer, part.number, part_sha256(transfer.source, part, self.board.stop))
            # A cut connection can hide any refusal, so the second one is answered with a new URL.
            hidden = answer.status is None and tries.back_off > 1
            if act is not Act.BACK_OFF or hidden or self.board.is_stale(signed):
                digests = {part.number: self.board.digest(transfer, part.number)}
                signed = self._sign(transfer, digests)[part.number]
            if not self.board.pace.enter(self.board.stop):
                raise Stopped

    def _put(self, transfer: Transfer, part: Part, signed: SignedUrl) -> Answer:
        """One try, with a place on the wire that is given back here."""
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self.board.moved(transfer, size)

        answer = Answer(None)
        try:
            with opened(transfer.source) as fd:
                reply = self.transport.put_range(signed.url, signed.headers, fd, part.offset, part.size, count)
                answer = read_answer(reply.status, reply.headers, reply.body)
                if answer.well:
                    answer = self._doubted(answer, transfer, part, sent, reply.headers.get("x-amz-checksum-sha256"))
                check_unchanged(fd, transfer.source)
        except NetworkError as error:
            answer = Answer(None, "", error.message)
        finally:
            self.board.pace.leave(sent, slow_down=asks_for_less(answer))
            if not answer.well:
                self.board.unmoved(transfer, sent)
        return answer

    def _doubted(self, answer: Answer, transfer: Transfer, part: Part, sent: int, echoed: str | None) -> Answer:
        """A success is believed only if all bytes went out and the store echoes their digest, where it echoes one."""
        if sent != part.size:
            return Answer(None, "", f"the store answered after {sent} of {part.size} bytes")
        if echoed is not None and echoed != self.board.digest(transfer, part.number):
            return Answer(400, "BadDigest", "the store stored other bytes")
        return answer

    def _ask(self, transfer: Transfer, error: ApiError | StoreError) -> None:
        """Let the API say what became of a session that was refused as gone, as finished or as there already."""
        for attempt in range(ASKS_MAX):
            body = self.api.call("GET", f"/v1/uploads/{segment(transfer.upload_id)}").body or {}
            if body.get("status") not in BYTES_WANTED:
                self.board.no_more_parts(transfer)
                return
            if transfer.single and isinstance(error, StoreError) and error.status == 412:
                # The key is this upload's alone and the digest was signed: what lies there is our earlier try.
                self.board.stored(transfer)
                return
            self._pause(attempt, None)
        if error.code not in LOST_CODES:
            raise error if isinstance(error, StoreError) else StoreError(error.status, error.code, error.message)
        if not self.board.restart(transfer):
            raise error
        self.hooks.notice(f"{transfer.item.name}: the store has lost this upload, starting again")

    # finishing

    def _complete(self, transfer: Transfer) -> None:
        parts = [{"part_number": n, "sha256": digest} for n, digest in sorted(transfer.sha256.items())]
        path = f"/v1/uploads/{segment(transfer.upload_id)}/complete"
        try:
            answer = self.api.call("POST", path, body={"parts": parts})
        except ApiError as error:
            if error.code not in SEND_AGAIN or not isinstance(error.body, dict):
                raise
            again = plans.expand(error.body.get(SEND_AGAIN[error.code]) or [], transfer.plan.part_count)
            if not again or transfer.rounds >= MISSING_ROUNDS_MAX:
                raise StoreError(error.status, error.code, error.message) from None
            self.board.send_again(transfer, again)
            return
        if answer.status == 202:
            after_s = retry_after_s(answer.headers.get("retry-after"), self.clock.wall())
            self.board.schedule(transfer, ASSEMBLING_S if after_s is None else after_s)
            return
        self._compare(transfer, (answer.body or {}).get("checksums"))
        self.board.completed(transfer, str((answer.body or {}).get("status", "staged")))

    def _poll(self, transfer: Transfer) -> None:
        record = self.api.call("GET", f"/v1/files/{segment(transfer.upload_id)}").body or {}
        if record.get("final") or not self.wait:
            self._compare(transfer, record.get("checksums"))
            self.board.end(transfer, outcome(transfer, str(record.get("status")), record, waited=self.wait))
        else:
            self.board.schedule(transfer, poll_s(transfer.polls))
            transfer.polls += 1

    def _compare(self, transfer: Transfer, sums: object) -> None:
        """The finished object's checksums with those of the bytes that were read here. Raises ChecksumMismatch."""
        if not isinstance(sums, Mapping) or len(transfer.sha256) != transfer.plan.part_count:
            return
        digests = [base64.b64decode(transfer.sha256[n]) for n in range(1, transfer.plan.part_count + 1)]
        composite = sums.get("sha256_composite")
        ours = f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"
        if isinstance(composite, str) and composite != ours:
            raise ChecksumMismatch("the composite SHA-256 of the finished object is not that of the parts sent")
        whole = sums.get("sha256") if sums.get("sha256_proven") else None
        if transfer.single and isinstance(whole, str) and whole.lower() != digests[0].hex():
            raise ChecksumMismatch("the SHA-256 of the finished object is not that of the bytes sent")

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        wanted_s = retry_after_s(retry_after, self.clock.wall())
        if self.clock.pause(self.board.stop, pause_s(attempt, self.clock.random(), wanted_s)):
            raise Stopped
