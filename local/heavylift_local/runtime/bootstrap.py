"""What a function's child process runs: Lambda's limits and import path, then Lambda's own runtime client.

Run by path with ``python -I -S -B bootstrap.py HANDLER PATH...``: -I and -S keep this project's other
packages and site hooks out, -B because Lambda's file system is read-only. The PATHs (function folder,
layers, the folder that stands for the runtime's and the layers' third-party packages) come before the
standard library, in Lambda's order.

The file system is read-only but for /tmp, for which TMPDIR stands here. An audit hook refuses what Python code
does through ``open``, ``os`` and ``sqlite3``. It does not see what native code writes by itself, nor what started
programs do; an ``os.open`` relative to a descriptor is taken for one relative to the working folder, since the
event does not name the descriptor. Permission bits would not do: they do not stop a developer who is root.
"""

import errno
import os
import resource
import sys

_handler, *_paths = sys.argv[1:]
sys.path[:0] = _paths
sys.argv[1:] = [_handler]

DATA_FACTOR = 2  # RLIMIT_DATA counts what is mapped, stacks of threads included, not what is used
DATA_SPARE_BYTES = 512 * 1024 * 1024
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events (Python library reference, "Audit events table") -> the positions of the paths that would change,
# each with the position of its dir_fd.
_CHANGES = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "os.removexattr": ((0, None),),
}


def _limit_memory() -> None:
    """The backstop behind the watchdog, which looks only every few milliseconds."""
    limit = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) * 1024 * 1024
    size = max(limit * DATA_FACTOR, limit + DATA_SPARE_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _make_read_only(writable: str) -> None:
    fspath, join, realpath = os.fspath, os.path.join, os.path.realpath
    allowed = (realpath(writable), "/dev", "/proc/self")

    def check(path: object, dir_fd: object = None) -> None:
        if isinstance(path, int):
            return  # a descriptor that is open already
        try:
            name = os.fsdecode(fspath(path))  # type: ignore[arg-type]
        except TypeError:
            return
        if isinstance(dir_fd, int) and dir_fd >= 0 and not name.startswith("/"):
            name = join(f"/proc/self/fd/{dir_fd}", name)
            name = join(realpath(os.path.dirname(name)), os.path.basename(name))
        full = realpath(name)
        if not any(full == root or full.startswith(root + "/") for root in allowed):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)

    def hook(event: str, args: tuple) -> None:  # type: ignore[type-arg]
        if event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & _WRITE_FLAGS
            if writes and path is not None:
                check(path)
        elif event == "sqlite3.connect":
            if args[0] not in ("", b"", ":memory:", b":memory:"):
                check(args[0])
        elif event in _CHANGES:
            for position, dir_position in _CHANGES[event]:
                there = dir_position is not None and dir_position < len(args)
                check(args[position], args[dir_position] if there else None)

    sys.addaudithook(hook)


_limit_memory()
if _writable := os.environ.get("TMPDIR"):
    _make_read_only(_writable)

from awslambdaric.__main__ import main  # noqa: E402

main(sys.argv)
