"""Folders as batches: one batch for every regular file of a folder, resumed after any end.

``pages`` decides what goes into one manifest page and one signing call, ``listing`` lists a folder into a file,
``journal`` remembers on disk what was done, ``lane`` sends the small members, ``run`` puts it all together.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from heavylift_client.batches.journal import Journal
from heavylift_client.batches.run import Run
from heavylift_client.results import Result


class BatchUpload(Iterator[Result]):
    """A folder on its way up: iterate for the result of every file; then ``record`` and ``ok`` are known.

        upload = client.upload_batch("study")
        for result in upload:
            print(result.relative_path, result.status)
        print(upload.record["status"])

    Nothing happens before the first result is asked for. Results come in the order of the names, once the batch
    has ended. ``close`` (or leaving the ``with`` block) stops the work; the same call goes on with it later.
    """

    def __init__(self, run: Run, journal: Journal) -> None:
        self._run = run
        self._journal = journal
        self._results: Generator[Result, None, None] = self._drive()

    def _drive(self) -> Generator[Result, None, None]:
        try:
            yield from self._run.results()
        finally:
            self._journal.close()

    def __next__(self) -> Result:
        return next(self._results)

    def __enter__(self) -> BatchUpload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the work."""
        self._results.close()
        if not self._journal.closed:
            self._journal.close()  # it never began

    @property
    def batch_id(self) -> str | None:
        """The batch's id, once it has begun; None for a folder without files."""
        return self._run.batch_id

    @property
    def record(self) -> dict[str, Any] | None:
        """The body of ``GET /v1/batches/{id}`` as of the end; None for a folder without files."""
        return self._run.record

    @property
    def ok(self) -> bool:
        """Whether every file ended well; without waiting, whether all bytes arrived."""
        return self._run.ok

    @property
    def bytes_sent(self) -> int:
        """All bytes of small files that went over the wire in this run, repeats included."""
        return self._run.counts.bytes_sent
