"""A child that ends as its first frame says: what a decoder may do to its process. Run by ``heavylift.image.child``."""

from __future__ import annotations

import os
import signal
import time

from heavylift.image.channel import Channel


def main() -> None:
    """``wanted`` names the way by the frame: 1 crashes, 2 hangs, 3 is killed for its memory."""
    job = Channel(os.dup(0), os.dup(1)).read_job()
    ((_, (way,)),) = job["wanted"]
    if way == 2:
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGSEGV if way == 1 else signal.SIGKILL)
