"""Where the running stack of this user is: a small file that ``up`` writes and removes.

It lies in the user's runtime folder (XDG_RUNTIME_DIR, else the temporary folder), names the API and the
process, and holds no secret: tokens are asked from the API itself.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ASK_SECONDS_MAX = 5.0


def folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) if runtime and os.path.isdir(runtime) else Path(tempfile.gettempdir())


def entry_path(pid: int) -> Path:
    return folder() / f"heavylift-{os.getuid()}-{pid}.json"


def write_entry(api: str) -> Path:
    """Announces this process; the caller removes the file at its end."""
    path = entry_path(os.getpid())
    path.unlink(missing_ok=True)
    # O_EXCL: in a shared temporary folder somebody else's link must not be followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:
        json.dump({"api": api, "pid": os.getpid()}, out)
    return path


def entries() -> list[dict[str, Any]]:
    """The announced stacks of this user whose process lives, newest first."""
    found = []
    for path in folder().glob(f"heavylift-{os.getuid()}-*.json"):
        try:
            status = path.lstat()
            if status.st_uid != os.getuid() or path.is_symlink():
                continue
            entry = json.loads(path.read_text(encoding="utf-8"))
            os.kill(int(entry["pid"]), 0)
            entry["api"] = str(entry["api"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append((status.st_mtime_ns, entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0], reverse=True)]


def ask_token(api: str, tenant: str | None = None, user: str | None = None, scope: str | None = None) -> str:
    """A development token from the stack at ``api``; raises OSError when there is none."""
    given = {"tenant": tenant, "user": user, "scope": scope}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    url = f"{api.rstrip('/')}/_local/token" + (f"?{query}" if query else "")
    # No proxy: the stack is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ASK_SECONDS_MAX) as answer:
            return str(json.load(answer)["token"])
    except urllib.error.HTTPError as error:
        raise OSError(f"{api} refused a token: {error.read(300).decode(errors='replace')}") from None
    except (ValueError, KeyError, TypeError):
        raise OSError(f"{api} is no local stack") from None


def running() -> dict[str, str] | None:
    """{"api","token"} of the newest stack of this user that answers, or None."""
    for entry in entries():
        try:
            return {"api": entry["api"], "token": ask_token(entry["api"])}
        except OSError:
            continue
    return None
