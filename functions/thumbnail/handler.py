"""Lambda entry point: thumbnail. Small pictures of large files."""

import os

from heavylift.messages import serve
from heavylift.thumbnailing import take

handler = serve(
    "thumbnail",
    lambda delivery: take(delivery, int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])),
)
