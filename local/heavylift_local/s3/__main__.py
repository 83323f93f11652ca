"""`python -m heavylift_local.s3 --config FILE`: one JSON line when ready, then silence; SIGTERM stops it, exit 0."""

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path

from heavylift_local.s3.config import ConfigError, load
from heavylift_local.s3.server import S3Server

M_ARENA_MAX = -8  # glibc mallopt(3): 256 threads must not have a heap each


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m heavylift_local.s3", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see heavylift_local.s3.config")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config)
    except (OSError, ValueError, ConfigError) as error:
        print(f"{options.config}: {error}", file=sys.stderr)
        return 2
    if hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    threading.stack_size(512 * 1024)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        server = S3Server(config).start()
    except (OSError, RuntimeError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"ready": True, "port": server.port, "pid": os.getpid()}), flush=True)
    done.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
