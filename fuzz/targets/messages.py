"""Bodies of queue messages: an S3 event, a message of ours, or ``UnknownMessage``; never anything else."""

from __future__ import annotations

from heavylift import queue


def one(data: bytes) -> None:
    try:
        message = queue.parse(data.decode("utf-8", "surrogateescape"))
    except queue.UnknownMessage:
        return
    if isinstance(message, queue.ObjectCreated):
        assert isinstance(message.key, str), message
        assert isinstance(message.bucket, str), message
        assert message.size_bytes >= 0, message
    elif isinstance(message, queue.ScanVerdict):
        assert all(isinstance(text, str) for text in (message.key, message.etag, message.status, *message.threats))
    elif message is not None:
        assert queue.parse(queue.body_of(message)) == message, message
