"""Instances in a World's store and index, put there as ingest leaves them, and calls about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from heavylift.dicom import index, instances
from heavylift.dicom.header import scan
from heavylift.dicom.instances import Identity, Instance
from heavylift.dicomweb.exchange import Answer, Request
from heavylift.dicomweb.multipart import Part, take_apart
from heavylift.dicomweb.negotiation import parse_accept
from heavylift.ids import new_ulid
from tests.doubles.world import DERIVED, STORE, World

BASE = "https://api.example/v1/dicomweb"


@dataclass(frozen=True, slots=True)
class Placed:
    """A stored instance."""

    world: World
    instance: Instance
    data: bytes

    def request(self, accept: str = "", frames: tuple[int, ...] = (), tenant: str = "acme", **query: str) -> Request:
        """A call about it."""
        one = self.instance
        return Request(
            tenant,
            base=BASE,
            study_uid=one.study_uid,
            series_uid=one.series_uid,
            instance_uid=one.sop_uid,
            frames=frames,
            accept=parse_accept(accept or "*/*"),
            query={name: (value,) for name, value in query.items()},
        )

    def series_request(self, accept: str = "", **query: str) -> Request:
        return replace(self.request(accept, **query), instance_uid=None)

    def study_request(self, accept: str = "", **query: str) -> Request:
        return replace(self.request(accept, **query), instance_uid=None, series_uid=None)

    def reads(self) -> list[str | None]:
        """The ranges of the store that were asked for since the gate was restarted."""
        return [call.arguments.get("Range") for call in self.world.gate.calls if call.operation == "get_object"]


def place(world: World, data: bytes, *, tenant: str = "acme", number: int | None = None, **values: Any) -> Placed:
    """Put an instance into the store and the index; ``values`` replace what the header says."""
    header = scan(lambda offset, length: data[offset : offset + length], len(data))
    file_id = new_ulid(world.clock())
    made = instances.instance_of(header, file_id, Identity(len(data), "of staging"), world.clock())
    made = replace(made, **({"number": number} if number is not None else {}), **values)
    world.s3.put_object(Bucket=STORE, Key=made.key(tenant), Body=data)
    assert index.put(tenant, made) is None
    index.add_study(tenant, replace(instances.study_of(header, world.clock()), study_uid=made.study_uid))
    series = instances.series_of(header)
    index.mark(tenant, replace(series, study_uid=made.study_uid, series_uid=made.series_uid))
    world.gate.restart()
    return Placed(world, made, data)


def parts(answer: Answer) -> list[Part]:
    """The parts of an answer with a body."""
    assert answer.status == 200, answer
    return take_apart(answer.body, answer.headers["content-type"])


def body_of(world: World, answer: Answer) -> tuple[bytes, str]:
    """The body that an answer has or leads to, and its media type."""
    if answer.status == 200:
        return answer.body, answer.headers["content-type"]
    assert answer.status == 307
    key = re.fullmatch(rf"https://{DERIVED}\.example/([^?]+)\?.*", answer.headers["location"])
    assert key is not None
    made = world.s3.buckets[DERIVED][key[1]]
    return made.body, made.media_type
