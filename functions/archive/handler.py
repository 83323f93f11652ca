"""Lambda entry point: archive. A ZIP of stored files, put together inside S3."""

from heavylift.archives.worker import take
from heavylift.messages import serve

handler = serve("archive", take)
