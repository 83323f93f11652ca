"""What a job costs, computed: prices as dated data, calls as the code makes them. ``python -m infra.cost`` prints it.

Pure. Prices are those of one region without any free tier or discount; the counts of calls are held to the code's own
limits by tests/infra/test_cost.py, which also holds docs/cost.md to what is printed here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra import topology

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for ``per`` units, and the page where it stands."""

    dollars: float
    per: int
    unit: str
    source: str

    def of(self, amount: float) -> float:
        return self.dollars * amount / self.per


AS_OF = "November 2026"  # as the pages below had them; they change: look before you rely on a figure
REGION = "us-east-1"
MILLION = 1_000_000
PRICES: Mapping[str, Price] = {
    "s3.put": Price(0.005, 1_000, "PUT, COPY, POST, LIST", "aws.amazon.com/s3/pricing"),
    "s3.get": Price(0.0004, 1_000, "GET, HEAD", "aws.amazon.com/s3/pricing"),
    "s3.month": Price(0.023, 1, "GB-month, Standard", "aws.amazon.com/s3/pricing"),
    "egress": Price(0.09, 1, "GB to the internet", "aws.amazon.com/s3/pricing"),
    "lambda.gb_s": Price(0.0000133334, 1, "GB-second, arm64", "aws.amazon.com/lambda/pricing"),
    "lambda.call": Price(0.20, MILLION, "invocations", "aws.amazon.com/lambda/pricing"),
    "api.call": Price(1.00, MILLION, "HTTP API calls", "aws.amazon.com/api-gateway/pricing"),
    "sqs.call": Price(0.40, MILLION, "SQS requests", "aws.amazon.com/sqs/pricing"),
    "events": Price(1.00, MILLION, "events of ours put, and S3's delivered", "aws.amazon.com/eventbridge/pricing"),
    "table.write": Price(0.625, MILLION, "write units, on demand", "aws.amazon.com/dynamodb/pricing/on-demand"),
    "table.read": Price(0.125, MILLION, "read units, on demand", "aws.amazon.com/dynamodb/pricing/on-demand"),
    "logs": Price(0.50, 1, "GB taken in by CloudWatch Logs", "aws.amazon.com/cloudwatch/pricing"),
    "metric": Price(0.30, 1, "custom metric-months", "aws.amazon.com/cloudwatch/pricing"),
    "alarm": Price(0.10, 1, "alarm metric-months", "aws.amazon.com/cloudwatch/pricing"),
    "dashboard": Price(3.00, 1, "dashboard-months", "aws.amazon.com/cloudwatch/pricing"),
    "kms.month": Price(1.00, 1, "key-months", "aws.amazon.com/kms/pricing"),
    "waf.month": Price(9.00, 1, "months of one ACL and four rules", "aws.amazon.com/waf/pricing"),
    "scan": Price(0.09, 1, "GB scanned for malware", "aws.amazon.com/guardduty/pricing"),
}

Amounts = dict[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What somebody does, and how often what is asked of AWS for it."""

    name: str
    words: str
    amounts: Mapping[str, float]

    def lines(self) -> list[tuple[str, float, float]]:
        """(what, how often, dollars), the dearest first."""
        found = [(what, amount, PRICES[what].of(amount)) for what, amount in self.amounts.items() if amount]
        return sorted(found, key=lambda one: -one[2])

    def dollars(self) -> float:
        return sum(cost for _, _, cost in self.lines())


def _add(*parts: Mapping[str, float]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for what, amount in part.items():
            total[what] = total.get(what, 0) + amount
    return total


def _function(name: str, calls: float, ms: float) -> Amounts:
    """Invocations at the function's memory."""
    gb = topology.function(name).memory_mb / 1024
    return {"lambda.call": calls, "lambda.gb_s": calls * gb * ms / 1000}


def _http(name: str, calls: float, ms: float) -> Amounts:
    """Calls of the API; each also writes some 500 bytes of logs, ours and the gateway's."""
    return _add(_function(name, calls, ms), {"api.call": calls, "logs": calls * 1_000 / 1e9})


def _message(calls: float = 1) -> Amounts:
    """An object's event through the bus and a queue: put, delivered, sent, received, deleted."""
    return {"events": calls, "sqs.call": 3 * calls}


# What a call takes on arm64, in ms: assumptions, rounded up from runs on one core of a laptop (docs/performance.md).
CALL_MS = 60
SIGN_MS = 20
PARTS_A_SIGN = 100  # what the clients ask for at once
COPY_PART = 128 * MIB
RECORD_UNITS = 4  # a record of up to 2 KiB with the entries of its indexes


def part_size(size: int) -> int:
    """The part size that a plan takes: heavylift.parts decides, a test compares."""
    return 16 * MIB if size < GIB else 64 * MIB if size < 64 * GIB else 128 * MIB


def upload(size: int, *, draws: bool = True) -> Amounts:
    """One large file: parts, proof, promotion by copies, and its picture."""
    parts = math.ceil(size / part_size(size))
    copies = math.ceil(size / COPY_PART)
    return _add(
        # CreateMultipartUpload, the parts, Complete; ListParts by thousands before it.
        {"s3.put": 1 + parts + 1 + math.ceil(parts / 1_000)},
        _http("initiate", 1, CALL_MS),
        _http("sign", math.ceil(parts / PARTS_A_SIGN), SIGN_MS),
        _http("sessions", 20, CALL_MS),  # a page that looks on
        _http("complete", 1, 5_000),  # S3 joins the parts meanwhile
        _message(),
        _function("validate", math.ceil(copies / 400), 60_000 * min(1, copies / 400)),
        # The copy: one upload, its parts and its end; some ranged reads to see what it is.
        {"s3.put": 2 + copies, "s3.get": 10},
        _message(),
        _function("thumbnail", 1, 30_000) if draws else {},
        {"s3.get": 200, "s3.put": 3} if draws else {},
        {"table.write": 12 * RECORD_UNITS, "table.read": 40, "logs": 50_000 / 1e9},
        # Its end is told; the lost-event index is looked at by the sweeper.
        {"events": 1},
    )


def dicom_batch(files: int, size: int) -> Amounts:
    """A folder of small DICOM files: one PUT each, ten to an invocation, one item each, series counted."""
    calls = math.ceil(files / (topology.function("dicom_ingest").source or topology.Source("")).batch_size)
    return _add(
        {"s3.put": files + files, "s3.get": files},  # into staging, a copy into the store, one ranged read
        _http("initiate", 1 + math.ceil(files / 5_000), CALL_MS),
        _http("sign", math.ceil(files / 500), SIGN_MS * 5),
        _http("sessions", 30, CALL_MS),
        _http("complete", 1, CALL_MS),
        {"events": files, "sqs.call": files + 2 * calls},
        _function("dicom_ingest", calls, 1_500),
        {"table.write": files * 6 + calls * 4, "table.read": calls * 40},
        {"logs": calls * 6_000 / 1e9},
    )


def archive(size: int, members: int) -> Amounts:
    """A ZIP made inside S3: members are copied by ranges, small ones read; the bytes pass no function."""
    ranges = members + math.ceil(size / COPY_PART)
    return _add(
        {"s3.put": 1 + 2 + ranges + 4, "s3.get": 2 * members},
        _http("initiate", 1, CALL_MS),
        _http("sessions", 10, CALL_MS),
        _message(),
        _function("archive", 1, 20_000),
        {"table.write": 10, "table.read": members, "logs": 20_000 / 1e9, "events": 1},
    )


def idle(alarms: int, metrics: int) -> Amounts:
    """A month in which nobody comes: the sweeper looks, alarms are watched, queues are polled."""
    sweep = topology.function("sweep")
    runs = 30 * 24 * 60 / (sweep.schedule_minutes or 15)
    polls = 30 * 86_400 / 20 * 5 * len(topology.QUEUES)  # five pollers a queue, each waits 20 s
    return _add(
        _function("sweep", runs, 1_500),
        {"s3.put": runs * 12, "table.read": runs * 30, "table.write": runs * 6, "events": runs},
        {"sqs.call": polls},
        {"alarm": alarms, "dashboard": 1, "metric": metrics, "logs": runs * 3_000 / 1e9},
    )


def jobs() -> tuple[Job, ...]:
    """What docs/cost.md tells of."""
    from infra.alarms import alarms

    watched = sum(len(one.metrics) for one in alarms("heavylift"))
    return (
        Job("upload", "an 80 GB camera RAW: uploaded, proven, promoted, drawn", upload(80 * 10**9)),
        Job("dicom", "2,000 DICOM files of 0.5 MB", dicom_batch(2_000, 500_000)),
        Job("archive", "a ZIP of 1 GB, 100 members", archive(10**9, 100)),
        Job("idle", "a month in which nobody comes", idle(watched, 10)),
    )


# What is no job but decides a bill: by the gigabyte.
def by_size(size: int) -> Mapping[str, float]:
    """Dollars for having and moving these bytes."""
    gb = size / 1e9
    return {
        "stored for a month": PRICES["s3.month"].of(gb),
        "downloaded once to the internet": PRICES["egress"].of(gb),
        "scanned once for malware": PRICES["scan"].of(gb),
    }


def report() -> str:
    """The tables of docs/cost.md."""
    lines = ["| job | US dollars | what it is made of |", "|---|---|---|"]
    for job in jobs():
        total = job.dollars()
        parts = [f"{what} {cost / total:.0%}" for what, _, cost in job.lines()[:4]]
        lines.append(f"| {job.words} | {total:.4f} | {', '.join(parts)} |")
    lines += ["", "| 80 GB | US dollars |", "|---|---|"]
    lines += [f"| {words} | {cost:.2f} |" for words, cost in by_size(80 * 10**9).items()]
    lines += ["", "| price | US dollars | for | its page |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {price.dollars:g} | {price.per:,} {price.unit} | {price.source} |"
        for name, price in PRICES.items()
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    sys.stdout.write(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
