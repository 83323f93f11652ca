"""Small documents as request bodies: configuration and tags."""

import threading

from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.objects import body_length
from heavylift_local.s3.request import Request
from heavylift_local.s3.xml import Node, Tree

DOCUMENT_BYTES_MAX = 1024 * 1024  # 1,000 lifecycle rules, the longest document S3 takes, are about 400 kB
TAGGING_BYTES_MAX = 64 * 1024  # 50 tags of 128 and 256 characters, however they are escaped

# Documents taken apart at once: 10 MB each at their largest, so that many clients together stay in bounds.
_parsing = threading.BoundedSemaphore(4)


class Collected:
    """A small body in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, view: memoryview) -> None:
        self.data += view


def read_bytes(request: Request, limit: int = DOCUMENT_BYTES_MAX) -> bytes:
    """The body, verified. Raises MissingRequestBodyError, MalformedXML (too long), and what its checks raise."""
    body = request.body
    assert body is not None
    length = body_length(request)
    if length == 0:
        raise S3Error("MissingRequestBodyError")
    if length > limit:
        raise S3Error("MalformedXML")
    collected = Collected()
    body.take(collected, body.checks(), plain=True)
    return bytes(collected.data)


def read_document(request: Request, root: str, limit: int = DOCUMENT_BYTES_MAX) -> Node:
    """The body's XML. Raises MalformedXML besides."""
    with _parsing:
        tree = Tree(root)
        tree.update(memoryview(read_bytes(request, limit)))
        return tree.close()
