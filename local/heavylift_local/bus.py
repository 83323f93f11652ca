"""The event bus: PutEvents judged as EventBridge judges it, the newest events kept, all of them logged, rules served.

Facts: Amazon EventBridge API reference ("PutEvents", "PutEventsRequestEntry", "PutEventsResultEntry") and user guide
("Calculating PutEvents event entry size"); sentences of errors as public recordings of EventBridge's answers have them.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heavylift_local.access import Callers, Denied
from heavylift_local.traps import AFTER, BEFORE, Sprung, Traps

TARGET = "AWSEvents."
ENTRIES_MAX = 10
# A call's entries together. EventBridge took 256 KB for years and takes 1 MB now; who stays below the smaller one is
# safe everywhere.
CALL_BYTES_MAX = 256 * 1024
TIME_BYTES = 14
DETAIL_TYPE_LENGTH_MAX = 128
KEPT_MAX = 10_000
PAGE_MAX = 1_000  # a detail has about a kilobyte

Entry = Mapping[str, Any]
Result = dict[str, str]


def entry_bytes(entry: Entry) -> int:
    """An entry's size as EventBridge counts it."""
    texts = [entry.get("Source"), entry.get("DetailType"), entry.get("Detail"), *(entry.get("Resources") or ())]
    return (TIME_BYTES if entry.get("Time") is not None else 0) + sum(len(str(text or "").encode()) for text in texts)


def refusal(entries: Sequence[Entry]) -> str | None:
    """Why the whole call is refused (ValidationException); None when each entry is judged by itself."""
    if not 1 <= len(entries) <= ENTRIES_MAX:
        least = "greater than or equal to 1" if not entries else f"less than or equal to {ENTRIES_MAX}"
        return (
            "1 validation error detected: Value '[PutEventsRequestEntry]' at 'entries' failed to satisfy constraint: "
            f"Member must have length {least}"
        )
    if sum(entry_bytes(entry) for entry in entries) >= CALL_BYTES_MAX:
        return "Total size of the entries in the request is over the limit."
    return None


def verdict(entry: Entry) -> Result | None:
    """{"ErrorCode","ErrorMessage"} of an entry that is not taken; None for one that is."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name) or not isinstance(entry[name], str):
            return _error("InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument.")
    if entry["Source"].startswith("aws."):
        return _error("NotAuthorizedForSourceException", "Not authorized for the source.")
    if len(entry["DetailType"]) > DETAIL_TYPE_LENGTH_MAX:
        return _error("InvalidArgument", "Parameter DetailType is not valid. Reason: it is too long.")
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        detail = None
    return None if isinstance(detail, dict) else _error("MalformedDetail", "Detail is malformed.")


def _error(code: str, message: str) -> Result:
    return {"ErrorCode": code, "ErrorMessage": message}


def envelope(entry: Entry, event_id: str, now: float, region: str, account: str) -> dict[str, Any]:
    """The event as rules and their targets see it ("Events in Amazon EventBridge"); times are whole seconds."""
    moment = entry.get("Time")
    at = now if moment is None else float(moment)
    return {
        "version": "0",
        "id": event_id,
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "account": account,
        "time": datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": list(entry.get("Resources") or ()),
        "detail": json.loads(entry["Detail"]),
    }


class Bus:
    """The stack's one bus, ``default``. Thread-safe."""

    def __init__(
        self,
        callers: Callers,
        log: Path,
        region: str,
        account: str,
        deliver: Callable[[Mapping[str, Any]], None],
        spring: Callable[[Sprung], object],
    ) -> None:
        """``deliver`` hands an event to the rules; ``spring`` ends a caller whose call a fault waits for."""
        self._callers, self._log, self._deliver, self._spring = callers, log, deliver, spring
        self._region, self._account = region, account
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT_MAX)
        self._last = 0
        self.traps = Traps()

    def handle(
        self, headers: Mapping[str, str], body: bytes, caller_name: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One call: status, headers and body of its answer. ``caller_name``: see Callers.of."""
        action = (headers.get("X-Amz-Target") or "").removeprefix(TARGET)
        caller = None
        try:
            caller = self._callers.of(headers.get("Authorization"), caller_name)
            sprung = self.traps.arrived(caller.name, action)
            if sprung is not None and sprung.when == BEFORE:
                self._spring(sprung)
                raise Denied("InternalException", "The caller was ended by a fault.", 500)
            status, answer = 200, self._answer(action, caller.name, body)
            if sprung is not None and sprung.when == AFTER:
                self._spring(sprung)
        except Denied as denied:
            status, answer = denied.status, {"__type": denied.code, "message": str(denied)}
        payload = json.dumps(answer).encode()
        if caller is not None:
            self._callers.count(caller.name, f"events.{action}", len(body), len(payload))
        return status, {"Content-Type": "application/x-amz-json-1.1"}, payload

    def _answer(self, action: str, caller: str, body: bytes) -> dict[str, Any]:
        if action != "PutEvents":
            raise Denied("UnknownOperationException", f"The local bus does not know {action[:80]!r}.")
        try:
            entries = json.loads(body)["Entries"]
        except (ValueError, KeyError, TypeError):
            raise Denied("SerializationException", "The request is no JSON object with Entries.") from None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Denied("SerializationException", "Entries is a list of objects.")
        for entry in entries:
            name = str(entry.get("EventBusName") or "default").rpartition("/")[2]
            self._callers.check(caller, "events:PutEvents", "bus" if name == "default" else f"bus:{name}")
            if name != "default":
                raise Denied("ResourceNotFoundException", f"Event bus {name} does not exist.")
        why = refusal(entries)
        if why is not None:
            raise Denied("ValidationException", why)
        results = [self._take(entry) for entry in entries]
        return {"FailedEntryCount": sum("ErrorCode" in one for one in results), "Entries": results}

    def _take(self, entry: Entry) -> Result:
        error = verdict(entry)
        if error is not None:
            return error
        event = envelope(entry, str(uuid.uuid4()), time.time(), self._region, self._account)
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n"
        with self._lock:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(line)
            self._kept.append(event)
            self._last += 1
        self._deliver(event)
        return {"EventId": event["id"]}

    def events(self, after: int) -> dict[str, Any]:
        """Events numbered from ``after`` + 1 on, at most 1,000, and the number of the last one given (or ``after``).

        Numbers begin at 1 when the stack starts. Of events older than the newest 10,000 only the log knows.
        """
        with self._lock:
            first = self._last - len(self._kept) + 1
            skipped = max(0, after + 1 - first)
            given = [event for place, event in enumerate(self._kept) if skipped <= place < skipped + PAGE_MAX]
        return {"events": given, "last": first + skipped + len(given) - 1 if given else after}
