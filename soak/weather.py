"""What goes wrong when: a plan of faults over time, from a seed. No I/O here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

# Calls at which a function dies, before or after they are carried out.
MOMENTS: Final = (
    "s3.CopyObject:1",
    "s3.CopyObject:1:after",
    "s3.CompleteMultipartUpload:1:after",
    "s3.UploadPartCopy:2",
    "s3.PutObject:1:after",
    "s3.DeleteObject:1",
    "dynamodb.UpdateItem:1",
    "dynamodb.UpdateItem:2:after",
    "dynamodb.PutItem:1:after",
    "sqs.SendMessage:1:after",
)


@dataclass(frozen=True, slots=True)
class Spell:
    """A document of faults that holds for some seconds; ``strike`` names a function of which one process is killed."""

    seconds: float
    kind: str
    faults: dict[str, Any] = field(default_factory=dict)
    strike: str | None = None


def forecast(seed: int, functions: tuple[str, ...]) -> Iterator[Spell]:
    """Spells of weather for ever: a third calm, so that work gets done between the storms."""
    chance = random.Random(seed)
    while True:
        seconds = chance.uniform(2, 8)
        kind = chance.choice(("calm", "calm", "calm", "kills", "moment", "store", "events", "slow", "strike", "storm"))
        fault_seed = chance.randrange(1 << 30)
        if kind == "kills":
            yield Spell(seconds, kind, {"functions": {"*": {"kill": chance.uniform(0.02, 0.2)}}, "seed": fault_seed})
        elif kind == "moment":
            yield Spell(seconds, kind, {"functions": {"*": {"kill_at": chance.choice(MOMENTS)}}, "seed": fault_seed})
        elif kind == "store":
            code = chance.choice(([503, "SlowDown"], [500, "InternalError"]))
            yield Spell(
                seconds, kind, {"s3": {"errors": {"*": [chance.uniform(0.02, 0.15), *code]}, "seed": fault_seed}}
            )
        elif kind == "events":
            events = {
                "copies": chance.randint(1, 3),
                "reverse": chance.random() < 0.5,
                "drop": chance.choice((0, 0.2, 0.4)),
                "seed": fault_seed,
            }
            yield Spell(seconds, kind, {"events": events})
        elif kind == "slow":
            yield Spell(seconds, kind, {"s3": {"latency_ms": {"*": chance.uniform(5, 60)}}})
        elif kind == "strike":
            yield Spell(seconds, kind, {}, chance.choice(functions))
        elif kind == "storm":
            yield Spell(
                seconds,
                kind,
                {
                    "functions": {"*": {"kill": 0.1}},
                    "s3": {"errors": {"*": [0.05, 503, "SlowDown"]}, "seed": fault_seed},
                    "events": {"copies": 2, "reverse": True, "drop": 0.2, "seed": fault_seed},
                    "seed": fault_seed,
                },
                chance.choice(functions),
            )
        else:
            yield Spell(seconds, "calm")
