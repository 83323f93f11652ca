"""The board on which the threads of an upload find their work. No I/O here.

A part goes ``todo -> to_sign -> ready -> stored``; a file whose parts are all stored becomes due for the
finishers. Every method takes the one condition itself; those that wait return None once nothing is left.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable

from heavylift_client import plan as plans
from heavylift_client.api import ApiError
from heavylift_client.backoff import Clock
from heavylift_client.errors import ClientError, NetworkError
from heavylift_client.pace import Pace
from heavylift_client.plan import Part
from heavylift_client.results import Result
from heavylift_client.sources import Item
from heavylift_client.transfers import Hooks, Job, SignedUrl, Transfer, failed, outcome

UNSENT_FILES_MAX = 2 * plans.INITIATE_FILES_MAX  # one group goes up while the next is prepared
HASHING_FILES_MAX = 2
SIGNED_TWICE_MAX = 3  # a URL that is old on arrival is used nevertheless


class Board:
    """The state of one run. Thread-safe."""

    def __init__(self, *, pace: Pace, wait: bool, clock: Clock, stop: threading.Event, hooks: Hooks) -> None:
        self.stop = stop
        self.pace = pace
        self.hooks = hooks
        self.results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        """What ended; None when there will be no more."""
        self.hopeless: ClientError | None = None
        """An error that every further file would meet too."""
        self._wait = wait
        self._clock = clock
        self._condition = threading.Condition(threading.RLock())
        self._hashing: deque[Transfer] = deque()
        self._to_sign: deque[tuple[Transfer, int, int]] = deque()
        self._ready: deque[Job] = deque()
        self._due: list[tuple[float, int, Transfer]] = []
        self._again: deque[Item] = deque()
        self._sequence = itertools.count()
        self._ahead = 0
        self._unsent_files = 0
        self._active = 0
        self._fed = False
        self._mine: set[str] = set()
        self._restarted: set[str] = set()

    # for everybody

    def wake(self) -> None:
        """Let every waiting thread look again, after ``stop`` was set."""
        with self._condition:
            self._condition.notify_all()

    @property
    def finished(self) -> bool:
        """All files that were fed have ended."""
        with self._condition:
            return self._fed and not self._active

    def _wait_for(self, found: Callable[[], bool]) -> bool:
        """Wait (condition held) for work; False when there will be none."""
        while not (over := self.stop.is_set() or (self._fed and not self._active)) and not found():
            self._condition.wait()
        return not over

    def fail(self, transfer: Transfer, error: ClientError) -> None:
        """This file cannot be uploaded; the others go on."""
        self.refuse(error)
        self.end(transfer, outcome(transfer, "failed", failure={"code": error.code, "message": error.message}))

    def end(self, transfer: Transfer, result: Result) -> None:
        """This file has ended; a second end of the same file is ignored."""
        with self._condition:
            if not transfer.ended:
                self._give_up(transfer)
                self.results.put(result)

    def refuse(self, error: ClientError) -> None:
        """Remember an error that every other file would meet too."""
        unauthorised = isinstance(error, ApiError) and error.status in (401, 403)
        if unauthorised or isinstance(error, NetworkError) or error.code == "certificate":
            self.hopeless = error

    def over(self, transfer: Transfer) -> bool:
        """Whether work on this file would be for nothing."""
        with self._condition:
            return transfer.ended or not transfer.unsent

    # feeder

    def room(self) -> bool:
        """Wait until another file may be opened; False when stopped."""
        with self._condition:
            while not self.stop.is_set() and (
                self._unsent_files >= UNSENT_FILES_MAX or len(self._hashing) >= HASHING_FILES_MAX
            ):
                self._condition.wait()
            return not self.stop.is_set()

    def next_restart(self) -> Item | None:
        """Wait for a file that has to start again; None when all files have ended."""
        with self._condition:
            while not self._again and self._active and not self.stop.is_set():
                self._condition.wait()
            if self._again and not self.stop.is_set():
                return self._again.popleft()
            self._fed = True
            self._condition.notify_all()
            return None

    def restarted(self) -> None:
        """The file that ``next_restart`` gave has a new session, or has ended."""
        with self._condition:
            self._active -= 1
            self._condition.notify_all()

    def never_began(self, item: Item, error: ClientError, size: int | None = None) -> None:
        """A file that never got a session."""
        self.refuse(error)
        self.results.put(failed(item, error, size))

    def is_mine(self, upload_id: str) -> bool:
        """Whether this run already works on that session: two files of the same bytes are two files."""
        with self._condition:
            return upload_id in self._mine

    def start(self, transfer: Transfer, numbers: list[int], signed: SignedUrl | None = None) -> None:
        """Begin with the parts ``numbers``; with none, the file is due to be completed."""
        with self._condition:
            self._active += 1
            self._mine.add(transfer.upload_id)
            transfer.unsent = len(numbers)
            if not numbers:
                transfer.upload_s = 0.0
                self.schedule(transfer, 0.0)
                return
            self._unsent_files += 1
            if transfer.plan.part_count > 1 or 1 not in transfer.sha256:
                transfer.todo.extend(numbers)
                self._hashing.append(transfer)
            elif signed is not None:
                self._ready.append(Job(transfer, 1, signed))
            else:
                self._to_sign.append((transfer, 1, 0))
            self._condition.notify_all()

    # hashers

    def part_to_hash(self) -> tuple[Transfer, Part] | None:
        """The next part that nobody has hashed, not too far ahead of what is stored."""
        with self._condition:
            if not self._wait_for(self._may_hash):
                return None
            transfer = self._hashing[0]
            number = transfer.todo.popleft()
            if not transfer.todo:
                self._hashing.popleft()
            transfer.ahead += 1
            self._ahead += 1
            self._condition.notify_all()
            return transfer, transfer.plan.part(number)

    def _may_hash(self) -> bool:
        return bool(self._hashing) and self._ahead < plans.parts_ahead(self._hashing[0].plan.part_size, self.pace.limit)

    def hashed(self, transfer: Transfer, number: int, digest: str) -> None:
        """A part's digest is known: it can be signed."""
        with self._condition:
            if transfer.unsent:
                transfer.sha256[number] = digest
                self._to_sign.append((transfer, number, 0))
                self._condition.notify_all()

    # signer

    def parts_to_sign(self) -> tuple[Transfer, dict[int, int]] | None:
        """Parts of one file that want a URL ({number: how often a URL grew old}), once the senders run low.

        Waiting for that is what makes batches, and keeps URLs young.
        """
        with self._condition:
            while self._wait_for(lambda: bool(self._to_sign) and len(self._ready) < (self.pace.limit + 1) // 2):
                transfer = self._to_sign[0][0]
                chosen = [job for job in self._to_sign if job[0] is transfer][: plans.SIGN_PARTS_MAX]
                numbers = {number: twice for _, number, twice in chosen}
                self._to_sign = deque(j for j in self._to_sign if j[0] is not transfer or j[1] not in numbers)
                if transfer.unsent:
                    return transfer, numbers
            return None

    def signed(self, jobs: list[Job]) -> None:
        """Parts with their URLs, for the senders."""
        with self._condition:
            self._ready.extend(job for job in jobs if job.transfer.unsent)
            self._condition.notify_all()

    # senders

    def job(self) -> Job | None:
        """The next part to send, with a place on the wire; one whose URL grew old goes back to the signer.

        The place is given back by whoever got the job (``pace.leave``).
        """
        with self._condition:
            while self._wait_for(lambda: self._has_fresh_job() and self.pace.try_enter()):
                job = self._ready.popleft()
                self._condition.notify_all()  # the signer watches how many are left
                return job
            return None

    def _has_fresh_job(self) -> bool:
        while self._ready:
            job = self._ready[0]
            if job.transfer.unsent and not (self.is_stale(job.signed) and job.signed_twice < SIGNED_TWICE_MAX):
                return True
            self._ready.popleft()
            if job.transfer.unsent:
                self._to_sign.appendleft((job.transfer, job.number, job.signed_twice + 1))
            self._condition.notify_all()
        return False

    def is_stale(self, signed: SignedUrl) -> bool:
        """Whether a URL is about to die."""
        return signed.stale_at is not None and self._clock.now() >= signed.stale_at

    def digest(self, transfer: Transfer, number: int) -> str:
        """The base64 SHA-256 of a part that was hashed."""
        with self._condition:
            return transfer.sha256[number]

    def rehashed(self, transfer: Transfer, number: int, digest: str) -> None:
        """A part was read again; it stays with its sender."""
        with self._condition:
            transfer.sha256[number] = digest

    def moved(self, transfer: Transfer, sent_bytes: int) -> None:
        """Bytes that go over the wire."""
        with self._condition:
            transfer.bytes_sent += sent_bytes
            self._count(transfer, sent_bytes)

    def unmoved(self, transfer: Transfer, sent_bytes: int) -> None:
        """Bytes that have to go again."""
        with self._condition:
            self._count(transfer, -sent_bytes)

    def stored(self, transfer: Transfer) -> None:
        """One more part of this file is in the store."""
        with self._condition:
            if transfer.ended or not transfer.unsent:
                return
            if transfer.single:
                self._settle(transfer, transfer.source.size)
            if transfer.ahead:
                transfer.ahead -= 1
                self._ahead -= 1
            transfer.unsent -= 1
            if not transfer.unsent:
                self._unsent_files -= 1
                self._all_sent(transfer)
            self._condition.notify_all()

    def _all_sent(self, transfer: Transfer) -> None:
        transfer.upload_s = self._clock.now() - transfer.started_at
        if not transfer.single:
            self.schedule(transfer, 0.0)
        elif self._wait:
            transfer.step = "poll"
            self.schedule(transfer, 0.0)
        else:
            self.end(transfer, outcome(transfer, "staged", waited=False))

    def no_more_parts(self, transfer: Transfer) -> None:
        """The session wants no more bytes from us; only its outcome is still of interest."""
        with self._condition:
            if not transfer.ended and transfer.step != "poll":
                self._settle(transfer, transfer.source.size)
                self._skip_rest(transfer)
                transfer.step = "poll"
                self.schedule(transfer, 0.0)

    def restart(self, transfer: Transfer) -> bool:
        """Put a file back to start with a new session; False if that was done once already."""
        with self._condition:
            if transfer.ended:
                return True
            if transfer.item.path in self._restarted:
                return False
            self._restarted.add(transfer.item.path)
            self._settle(transfer, 0)
            self._give_up(transfer)
            self._again.append(transfer.item)
            self._active += 1  # until the feeder has taken it up
            self._condition.notify_all()
            return True

    # finishers

    def schedule(self, transfer: Transfer, after_s: float) -> None:
        """Let a finisher look at this file in so many seconds."""
        with self._condition:
            heapq.heappush(self._due, (self._clock.now() + after_s, next(self._sequence), transfer))
            self._condition.notify_all()

    def file_due(self) -> Transfer | None:
        """The next file to complete or to ask about."""
        with self._condition:
            while not (self.stop.is_set() or (self._fed and not self._active)):
                left_s = self._due[0][0] - self._clock.now() if self._due else None
                if left_s is None or left_s > 0:
                    self._clock.wait(self._condition, left_s)
                    continue
                transfer = heapq.heappop(self._due)[2]
                if not transfer.ended:
                    return transfer
            return None

    def completed(self, transfer: Transfer, status: str) -> None:
        """The parts became an object."""
        with self._condition:
            if self._wait:
                transfer.step = "poll"
                self.schedule(transfer, 0.0)
            else:
                self.end(transfer, outcome(transfer, status, waited=False))

    def send_again(self, transfer: Transfer, numbers: list[int]) -> None:
        """Parts that the store turned out not to have."""
        with self._condition:
            if transfer.ended:
                return
            transfer.rounds += 1
            self._count(transfer, -sum(transfer.plan.part(n).size for n in numbers))
            transfer.unsent = len(numbers)
            transfer.todo.extend(numbers)
            self._unsent_files += 1
            self._hashing.append(transfer)
            self._condition.notify_all()

    # (condition held)

    def _count(self, transfer: Transfer, size: int) -> None:
        if not transfer.settled and size:
            transfer.bytes_counted += size
            self.hooks.on_bytes(size)

    def _settle(self, transfer: Transfer, total: int) -> None:
        """The caller sees ``total`` bytes of this file as done, whatever still arrives from other threads."""
        self._count(transfer, total - transfer.bytes_counted - transfer.bytes_resumed)
        transfer.settled = True

    def _skip_rest(self, transfer: Transfer) -> None:
        if transfer in self._hashing:
            self._hashing.remove(transfer)
        transfer.todo.clear()
        if transfer.unsent:
            transfer.unsent = 0
            self._unsent_files -= 1
        self._ahead -= transfer.ahead
        transfer.ahead = 0

    def _give_up(self, transfer: Transfer) -> None:
        self._skip_rest(transfer)
        transfer.ended = True
        self._active -= 1
        self._condition.notify_all()
