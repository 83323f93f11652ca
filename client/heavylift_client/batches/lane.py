"""Sends the small members of a batch: one signed PUT each, URLs for up to 500 of them a call.

    unsigned -> ready -> on the wire -> stored
       ^          |           |
       +----------+-----------+   a URL that grew old, or that S3 refuses

One signer asks for URLs when the senders run low; N senders have a connection each. Memory: the members of two
pages and the URLs of two windows.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from heavylift_client.api import Api, segment
from heavylift_client.backoff import Clock, pause_s, retry_after_s
from heavylift_client.batches import pages
from heavylift_client.batches.journal import Journal
from heavylift_client.batches.pages import Member
from heavylift_client.errors import AnswerError, ClientError, NetworkError, SourceChanged, Stopped, StoreError
from heavylift_client.pace import Pace
from heavylift_client.sources import unreadable
from heavylift_client.transfers import Hooks, SignedUrl, signed_url
from heavylift_client.transport import Transport
from heavylift_client.verdict import Act, Answer, Tries, asks_for_less, in_words, judge, read_answer, worlds_fault

LOW_WATER = 250  # URLs left when the next are asked for: a call takes as long as some hundred small PUTs
WAITING_MAX = pages.ENTRIES_MAX  # members that wait for URLs; no further page is hashed until they are fewer
REFUSALS_MAX = 20  # in a row: what refuses so many refuses all
STORED = 2
STALE_MAX = 3  # a URL that is old on arrival is used nevertheless

OnFailed = Callable[[Member, ClientError], None]


@dataclass(slots=True)
class Counts:
    """What the lane did; ``bytes_sent`` with all that had to go again."""

    stored: int = 0
    bytes_sent: int = 0


@dataclass(slots=True)
class Lane:
    """The small members of one batch. Thread-safe; loops end when ``close`` was called and all members are done."""

    batch_id: str
    root: str
    api: Api
    transport: Transport
    journal: Journal
    pace: Pace
    clock: Clock
    stop: threading.Event
    hooks: Hooks
    patience_s: float
    on_failed: OnFailed
    state: bytearray
    """A byte a member; 2 for what was stored here."""
    counts: Counts = field(default_factory=Counts)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _for_senders: threading.Condition = field(init=False)
    _for_others: threading.Condition = field(init=False)
    """The signer, and whoever fills the lane."""
    _unsigned: deque[Member] = field(default_factory=deque)
    _ready: deque[tuple[Member, SignedUrl]] = field(default_factory=deque)
    _tries: dict[int, tuple[Tries, float]] = field(default_factory=dict)
    """Of members that failed before: what was tried, and since when."""
    _open: int = 0
    _refusals: int = 0
    _closed: bool = False
    _began_at: float | None = None
    _lives_s: float | None = None

    def __post_init__(self) -> None:
        self._for_senders = threading.Condition(self._lock)
        self._for_others = threading.Condition(self._lock)
        self.pace.listen(self._room)

    # whoever fills it

    def add(self, members: list[Member]) -> bool:
        """Members whose page is in the manifest; waits while too many are waiting. False when stopped."""
        with self._lock:
            self._open += len(members)
            self._unsigned.extend(members)
            self._for_others.notify_all()
            while len(self._unsigned) > WAITING_MAX and not self.stop.is_set():
                self.clock.wait(self._for_others, 1.0)
            return not self.stop.is_set()

    def close(self) -> None:
        """No more members will come."""
        with self._lock:
            self._closed = True
            self.wake()

    def wake(self) -> None:
        """Let every waiting thread look again, after ``stop`` was set."""
        with self._lock:
            self._for_senders.notify_all()
            self._for_others.notify_all()

    def _room(self) -> None:
        """A place on the wire is free, maybe another lane's."""
        with self._lock:
            self._for_senders.notify()

    def _over(self) -> bool:
        return self.stop.is_set() or (self._closed and not self._open)

    # the signer

    def sign(self) -> None:
        """URLs for members, a window at a time, until all are done. Raises Stopped, ClientError."""
        while (window := self._window()) is not None:
            body = {"n": [member.n for member in window]}
            answer = self.api.call("POST", f"/v1/batches/{segment(self.batch_id)}/urls", body=body)
            entries = {entry.get("n"): entry for entry in (answer.body or {}).get("urls", ())}
            fresh = []
            for member in window:
                entry = entries.get(member.n)
                if entry is None:
                    raise AnswerError(f"the API said nothing about member {member.n}")
                if entry.get("problem"):
                    problem = entry["problem"]
                    message = problem.get("detail") or problem.get("title") or "the API gave no reason"
                    self._failed(member, ClientError(str(problem.get("code", "refused")), str(message)))
                else:
                    fresh.append((member, signed_url(entry, answer)))
            with self._lock:
                if fresh and fresh[0][1].stale_at is not None:
                    self._lives_s = fresh[0][1].stale_at - answer.asked_at
                self._ready.extend(fresh)
                self._for_senders.notify_all()

    def _window(self) -> list[Member] | None:
        """The next members to sign, once the senders run low; None at the end."""
        with self._lock:
            while not self._over():
                size = pages.window_size(self._files_per_s(), self._lives_s, self.pace.limit)
                if self._unsigned and len(self._ready) <= min(LOW_WATER, size // 2):
                    self._for_others.notify_all()  # there is room for another page
                    return [self._unsigned.popleft() for _ in range(min(size, len(self._unsigned)))]
                self.clock.wait(self._for_others, 1.0)
            return None

    def _files_per_s(self) -> float:
        if self._began_at is None or not self.counts.stored:
            return 0.0
        return self.counts.stored / max(1e-3, self.clock.now() - self._began_at)

    # the senders

    def send(self) -> None:
        """One member after the other, until all are done. Raises Stopped; NetworkError once patience has run out."""
        while (job := self._job()) is not None:
            member, signed = job
            try:
                self._settle(member, self._put(member, signed))
            except (Stopped, NetworkError):
                raise
            except ClientError as error:
                self._failed(member, error)

    def _job(self) -> tuple[Member, SignedUrl] | None:
        """The next member to send, with a place on the wire; None at the end."""
        with self._lock:
            while not self._over():
                self._set_old_urls_aside()
                if self._ready and self.pace.try_enter():
                    if self._began_at is None:
                        self._began_at = self.clock.now()
                    job = self._ready.popleft()
                    if len(self._ready) <= LOW_WATER and self._unsigned:
                        self._for_others.notify_all()  # the signer is asleep
                    return job
                self.clock.wait(self._for_senders, 1.0)
            return None

    def _set_old_urls_aside(self) -> None:
        while self._ready:
            member, signed = self._ready[0]
            if signed.stale_at is None or self.clock.now() < signed.stale_at or member.stale >= STALE_MAX:
                return
            self._ready.popleft()
            member.stale += 1
            self._unsigned.append(member)
            self._for_others.notify_all()

    def _put(self, member: Member, signed: SignedUrl) -> Answer:
        """One try, with a place on the wire that is given back here. Raises SourceError."""
        sent, answer = 0, Answer(None)

        def count(size: int) -> None:
            nonlocal sent
            sent += size

        try:
            fd = open_member(self.root, member)
            try:
                reply = self.transport.put_range(signed.url, signed.headers, fd, 0, member.size, count)
                answer = read_answer(reply.status, reply.headers, reply.body)
                echoed = reply.headers.get("x-amz-checksum-sha256")
                if answer.well and sent != member.size:
                    answer = Answer(None, "", f"the store answered after {sent} of {member.size} bytes")
                elif answer.well and echoed is not None and echoed != member.sha256:
                    answer = Answer(400, "BadDigest", "the store stored other bytes")
                check_unchanged(fd, member)
            finally:
                os.close(fd)
        except NetworkError as error:
            answer = Answer(None, "", error.message)
        finally:
            with self._lock:
                self.counts.bytes_sent += sent
            self.pace.leave(sent, slow_down=asks_for_less(answer))
        return answer

    def _settle(self, member: Member, answer: Answer) -> None:
        """Decide what an answer means for the member. Raises Stopped, StoreError, and NetworkError when the store has
        been away for too long: no other member would fare better."""
        if self.stop.is_set():
            raise Stopped
        if answer.well:
            self._stored(member)
            return
        now = self.clock.now()
        tries, since = self._tries.get(member.n, (NO_TRIES, now))
        act = judge(answer, tries, now - since, self.patience_s)
        if act is Act.ASK and answer.status == 412:
            # The key is this member's alone and its digest was signed: what lies there is our earlier try.
            self._stored(member)
            return
        if act is Act.FAIL and worlds_fault(answer.status):
            raise NetworkError(in_words(answer))
        if act in (Act.FAIL, Act.ASK):
            self._refusals += 1
            if self._refusals > REFUSALS_MAX:
                raise NetworkError(f"{REFUSALS_MAX} files in a row were refused: {in_words(answer)}")
            raise StoreError(answer.status, answer.code or "network", in_words(answer))
        tries = tries.after(act, answer)
        # The first new signature is asked for at once: an old URL says nothing about load.
        if act is not Act.SIGN_AGAIN or tries.sign_again > 1:
            wanted_s = retry_after_s(answer.retry_after, self.clock.wall())
            if self.clock.pause(self.stop, pause_s(tries.total - 1, self.clock.random(), wanted_s)):
                raise Stopped
        with self._lock:
            # With a new URL also after a pause: it may have grown old, and a cut connection can hide any refusal.
            self._tries[member.n] = tries, since
            self._unsigned.append(member)
            self._for_others.notify_all()

    def _stored(self, member: Member) -> None:
        self.journal.stored(member.n)
        self.state[member.n] = STORED
        self.hooks.on_bytes(member.size)
        with self._lock:
            self.counts.stored += 1
            self._refusals = 0
            self._tries.pop(member.n, None)
            self._closing()

    def _failed(self, member: Member, error: ClientError) -> None:
        self.on_failed(member, error)
        with self._lock:
            self._closing()

    def _closing(self) -> None:
        self._open -= 1
        if self._closed and not self._open:
            self.wake()


NO_TRIES = Tries()


def open_member(root: str, member: Member) -> int:
    """A descriptor of a member's file, still as it was listed. Raises SourceChanged, SourceError."""
    try:
        # O_NONBLOCK: what was a file may be a named pipe by now.
        fd = os.open(os.path.join(root, member.path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise SourceChanged("the file vanished while it was being uploaded") from None
    except (OSError, ValueError) as error:
        raise unreadable(error) from None
    try:
        check_unchanged(fd, member)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_unchanged(fd: int, member: Member) -> None:
    """Raises SourceChanged if size or time differ from what was listed."""
    facts = os.fstat(fd)
    if facts.st_size != member.size:
        raise SourceChanged(f"the file changed while it was being uploaded: {member.size} bytes became {facts.st_size}")
    if facts.st_mtime_ns != member.mtime_ns:
        raise SourceChanged("the file changed while it was being uploaded: it was written to")
