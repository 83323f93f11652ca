"""What AWS answers when it refuses, as botocore raises it."""

from __future__ import annotations

from botocore.exceptions import ClientError


def refusal(code: str, status: int, operation: str, message: str = "") -> ClientError:
    """An AWS error answer; ``status`` is its HTTP status."""
    return ClientError(
        {"Error": {"Code": code, "Message": message or code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )
