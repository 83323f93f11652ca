"""Callers are told apart by their key, and where they share one by the name that goes with the call."""

from __future__ import annotations

import pytest

from heavylift_local.access import Caller, Callers, Denied, Grant, merge_counts

EVERYTHING = (Grant(("*",), ("*",)),)


def header(key: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/sqs/aws4_request"


def test_a_shared_key_means_the_first_unless_somebody_is_named() -> None:
    """A wrong key is refused with or without a name."""
    callers = Callers((Caller("client", "AK", EVERYTHING), Caller("f", "AK", ())), "0")

    assert callers.of(header("AK")).name == "client"
    assert callers.of(header("AK"), "f").name == "f"
    for name in (None, "f"):
        with pytest.raises(Denied):
            callers.of(header("OTHER"), name)
    with pytest.raises(Denied):
        callers.check("f", "sqs:SendMessage", "queue:x")


def test_a_name_does_not_replace_a_key_of_ones_own() -> None:
    """Another caller's valid key at somebody's port is refused."""
    callers = Callers((Caller("client", "AK", EVERYTHING), Caller("f", "FK", ())), "0")
    with pytest.raises(Denied):
        callers.of(header("AK"), "f")


def test_counts_add_up_and_merge() -> None:
    """Units are sums beside requests and bytes; services' operations stand side by side."""
    callers = Callers((Caller("f", "AK", EVERYTHING),), "0")
    callers.count("f", "dynamodb.GetItem", 10, 20, {"read_units": 0.5})
    callers.count("f", "dynamodb.GetItem", 1, 2, {"read_units": 1})
    merged = merge_counts([callers.counts(), {"f": {"s3.GetObject": {"requests": 1}}}])

    assert merged == {
        "f": {
            "dynamodb.GetItem": {"requests": 2, "bytes_in": 11, "bytes_out": 22, "read_units": 1.5},
            "s3.GetObject": {"requests": 1},
        }
    }
