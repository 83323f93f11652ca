"""What a function's child process runs: Lambda's import path, then Lambda's own runtime client.

Run by path with ``python -I -S -B bootstrap.py HANDLER PATH...``: -I and -S keep this project's other
packages and site hooks out, -B because Lambda's file system is read-only. The PATHs (function folder,
layers, the folder that stands for the runtime's and the layers' third-party packages) come before the
standard library, in Lambda's order.
"""

import sys

_handler, *_paths = sys.argv[1:]
sys.path[:0] = _paths
sys.argv[1:] = [_handler]

from awslambdaric.__main__ import main  # noqa: E402

main(sys.argv)
