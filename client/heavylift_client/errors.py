"""What can go wrong for a caller of the client, each with a stable ``code`` and a sentence.

No message holds a presigned URL or a token.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all expected failures: ``code`` is stable, ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class NetworkError(ClientError):
    """Nothing usable came back: refused, cut, timed out, no such host. The same request may succeed later."""

    def __init__(self, message: str) -> None:
        super().__init__("network", message)


class SourceError(ClientError):
    """The local file cannot be read (``source_unreadable``) or is no regular file (``not_a_file``)."""


class SourceChanged(SourceError):
    """The local file changed while it was being uploaded."""

    def __init__(self, message: str) -> None:
        super().__init__("source_changed", message)


class StoreError(ClientError):
    """S3 refused a request for good; ``code`` is S3's own, ``status`` its HTTP status."""

    def __init__(self, status: int | None, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = status


class AnswerError(ClientError):
    """An answer of the API or of S3 does not say what the contract promises (``bad_answer``)."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_answer", message)


class ChecksumMismatch(ClientError):
    """What was downloaded is not what the record says."""

    def __init__(self, message: str) -> None:
        super().__init__("checksum_mismatch", message)


class NoSession(ClientError):
    """No open upload session fits this file."""

    def __init__(self, message: str) -> None:
        super().__init__("no_session", message)


class Stopped(ClientError):
    """The caller stopped the work; what was stored stays, and the same call resumes it."""

    def __init__(self) -> None:
        super().__init__("stopped", "stopped before the end; running the same again resumes")
