"""What one tenant may begin within a minute, so that it cannot take the table and the functions from the others.

A fixed window: one item for each tenant and minute counts calls and files, by one conditional write a call. What is
refused was not counted. Around a minute's turn a tenant may so spend two minutes' worth at once; that is far below
what the limits protect. Reading is not limited here, signing by the gateway alone: it writes nothing.
"""

from __future__ import annotations

import math
import time

from botocore.exceptions import ClientError

from heavylift import aws, ddb_json, items
from heavylift.errors import RequestError
from heavylift.settings import settings
from heavylift.telemetry import count

WINDOW_S = 60  # of real time: how much a table takes does not change with a scaled clock
KEPT_S = 3_600  # then the table removes the count


def spend(tenant: str, *, files: int = 0) -> None:
    """Count one call that begins so many files. RequestError ``rate_limited`` when that is more than is left.

    A call that alone is above the limit passes as the first of its minute: it would never pass otherwise.
    """
    limits = {
        "calls": (1, settings().rate_limit_calls_per_minute),
        "files": (files, settings().rate_limit_files_per_minute),
    }
    spent = {name: amount for name, (amount, limit) in limits.items() if limit and amount}
    if not spent:
        return
    now = time.time()
    window = int(now // WINDOW_S)
    names, values = {"#ttl": "ttl"}, {":ttl": math.ceil(now + KEPT_S)}
    conditions, additions = [], []
    for name, amount in spent.items():
        names[f"#{name}"] = name
        values |= {f":{name}": amount, f":{name}_left": limits[name][1] - amount}
        conditions.append(f"(attribute_not_exists(#{name}) OR #{name} <= :{name}_left)")
        additions.append(f"#{name} :{name}")
    try:
        items.call(
            "update_item",
            TableName=settings().table_name,
            Key=ddb_json.encode_item({"pk": f"T#{tenant}#RATE", "sk": f"{window:012d}"}),
            UpdateExpression=f"SET #ttl = :ttl ADD {', '.join(additions)}",
            ConditionExpression=" AND ".join(conditions),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={name: ddb_json.encode(value) for name, value in values.items()},
        )
    except ClientError as error:
        if aws.error_code(error) != "ConditionalCheckFailedException":
            raise
        count("RateLimited")
        raise RequestError(
            "rate_limited",
            "This tenant began too many uploads within this minute.",
            retry_after_s=max(1, math.ceil((window + 1) * WINDOW_S - now)),
            **{f"{name}_per_minute": limit for name, (_, limit) in limits.items() if limit},
        ) from None
