"""The Python client of heavylift: uploads, downloads and the ``heavylift`` command."""

from heavylift_client.api import ApiError
from heavylift_client.batches import BatchUpload
from heavylift_client.client import Client
from heavylift_client.download import Download
from heavylift_client.errors import (
    AnswerError,
    ChecksumMismatch,
    ClientError,
    NetworkError,
    NoSession,
    SourceChanged,
    SourceError,
    Stopped,
    StoreError,
)
from heavylift_client.fingerprint import fingerprint
from heavylift_client.results import Result
from heavylift_client.rows import stream_csv
from heavylift_client.transfers import Hooks

__all__ = [
    "AnswerError",
    "ApiError",
    "BatchUpload",
    "ChecksumMismatch",
    "Client",
    "ClientError",
    "Download",
    "Hooks",
    "NetworkError",
    "NoSession",
    "Result",
    "SourceChanged",
    "SourceError",
    "Stopped",
    "StoreError",
    "fingerprint",
    "stream_csv",
]
