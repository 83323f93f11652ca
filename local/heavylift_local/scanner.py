"""A stub in place of the malware scanner, for the scanning gate on a laptop (MALWARE_SCAN other than ``off``).

It is no scanner: it knows the EICAR test file (https://www.eicar.org/download-anti-malware-testfile/), which every
scanner calls infected and which does nothing, and calls everything else clean. What it says has GuardDuty's form: the
event, and the object's tag. It says of itself that it is a stub, in the event's resources and in the log.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

# Written in two pieces, so that no scanner takes this file for one.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + rb"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
THREAT = "EICAR-Test-File (not a virus)"
LOOKED_AT_BYTES = 1024 * 1024  # from the beginning: the test file has 68 bytes and stands by itself
TAG = "GuardDutyMalwareScanStatus"
CLEAN, INFECTED = "NO_THREATS_FOUND", "THREATS_FOUND"
STUB = "malware-protection-plan/heavylift-stub-scanner"

logger = logging.getLogger(__name__)


class Bucket(Protocol):
    """What the stub asks of S3."""

    def get_object(self, **arguments: Any) -> Any: ...
    def put_object_tagging(self, **arguments: Any) -> Any: ...


def verdict(head: bytes) -> tuple[str, list[str]]:
    """(GuardDuty's word, names of threats) of an object's first bytes."""
    return (INFECTED, [THREAT]) if EICAR in head else (CLEAN, [])


def result(
    bucket: str, key: str, etag: str, version_id: str | None, status: str, threats: list[str], region: str, account: str
) -> dict[str, Any]:
    """GuardDuty's event ("Monitoring S3 object scans with Amazon EventBridge")."""
    scanned = {"bucketName": bucket, "objectKey": key, "eTag": etag, "s3Throttled": False}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "GuardDuty Malware Protection Object Scan Result",
        "source": "aws.guardduty",
        "account": account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:guardduty:{region}:{account}:{STUB}"],
        "detail": {
            "schemaVersion": "1.0",
            "scanStatus": "COMPLETED",
            "resourceType": "S3_OBJECT",
            "s3ObjectDetails": scanned | ({"versionId": version_id} if version_id else {}),
            "scanResultDetails": {
                "scanResultStatus": status,
                "threats": [{"name": name} for name in threats] or None,
            },
        },
    }


class StubScanner:
    """Looks at each object that ``see`` is told of, one after the other, on a thread of its own."""

    def __init__(
        self,
        s3: Bucket,
        prefixes: Mapping[str, tuple[str, ...]],
        publish: Callable[[Mapping[str, Any]], None],
        region: str,
        account: str,
    ) -> None:
        """``prefixes``: what is scanned, by bucket. ``publish`` hands an event to the rules."""
        self._s3, self._prefixes, self._publish = s3, prefixes, publish
        self._region, self._account = region, account
        self._waiting: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stub-scanner", daemon=True)

    def start(self) -> None:
        logger.warning("the malware scanner is a stub: it knows the EICAR test file and nothing else")
        self._thread.start()

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join(5)

    def see(self, event: Mapping[str, Any]) -> None:
        """An event of S3's; what is no new object under the prefixes is left alone."""
        if event.get("source") != "aws.s3" or event.get("detail-type") != "Object Created":
            return
        detail = event["detail"]
        if str(detail["object"]["key"]).startswith(self._prefixes.get(detail["bucket"]["name"], ())):
            self._waiting.put(detail)

    def _run(self) -> None:
        while (detail := self._waiting.get()) is not None:
            try:
                self.scan(detail)
            except Exception as error:  # noqa: BLE001  (the top of a server loop)
                logger.warning("the stub scanner could not read an object: %s", error)

    def scan(self, detail: Mapping[str, Any]) -> None:
        """Read, tag, tell."""
        bucket, found = detail["bucket"]["name"], detail["object"]
        wanted = {"Bucket": bucket, "Key": found["key"]}
        head = b""
        if found.get("size"):
            answer = self._s3.get_object(**wanted, IfMatch=found["etag"], Range=f"bytes=0-{LOOKED_AT_BYTES - 1}")
            head = answer["Body"].read()
        status, threats = verdict(head)
        self._s3.put_object_tagging(**wanted, Tagging={"TagSet": [{"Key": TAG, "Value": status}]})
        version = found.get("version-id")
        self._publish(
            result(bucket, found["key"], found["etag"], version, status, threats, self._region, self._account)
        )
