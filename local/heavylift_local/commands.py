"""``heavylift up``, ``token`` and ``adopt``: arguments and what they do.

``add_arguments(name, parser)`` and ``run(name, args)`` are what the ``heavylift`` command calls; heavy imports
wait until a command runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

OK, NOT_WELL, USAGE = 0, 1, 2
NAMES = ("up", "token", "adopt")
WAIT_POLL_S = 0.3


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """The options of one command."""
    if name == "up":
        parser.add_argument("--port", type=int, default=0, help="port of the API and the page; default: a free one")
        parser.add_argument("--data", type=Path, metavar="DIR", help="keep objects and tables here; default: temporary")
        parser.add_argument("--json", action="store_true", help="the ready line as JSON, also on a terminal")
        parser.add_argument("--no-events", action="store_true", help="store only, process nothing")
        parser.add_argument("--access-log", type=Path, metavar="FILE", help="one JSON line for each S3 request")
        parser.add_argument(
            "--s3-endpoint",
            metavar="URL",
            default=os.environ.get("HEAVYLIFT_S3_ENDPOINT") or None,
            help="use another S3 (AWS, LocalStack, ...) with the credentials of the AWS environment variables",
        )
        # For the stack's own tests: another topology and other handlers.
        parser.add_argument("--topology", type=Path, help=argparse.SUPPRESS)
        parser.add_argument("--functions", type=Path, help=argparse.SUPPRESS)
    elif name == "token":
        parser.add_argument("--tenant", required=True)
        parser.add_argument("--user")
        parser.add_argument("--scope", help="space-separated; default: all")
    elif name == "adopt":
        parser.add_argument("files", nargs="+", metavar="FILE")
        parser.add_argument("--tenant", default="demo")
        parser.add_argument("--no-wait", action="store_true", help="do not wait for the thumbnails")
        parser.add_argument("--json", action="store_true")


def run(name: str, args: argparse.Namespace) -> int:
    """The exit status of one command."""
    return {"up": _up, "token": _token, "adopt": _adopt}[name](args)


def main(argv: list[str] | None = None) -> int:
    """``python -m heavylift_local``: the same commands without the client."""
    parser = argparse.ArgumentParser(prog="python -m heavylift_local")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in NAMES:
        add_arguments(name, commands.add_parser(name))
    args = parser.parse_args(argv)
    return run(args.command, args)


def _up(args: argparse.Namespace) -> int:
    if args.s3_endpoint and args.access_log:
        print("heavylift up: --access-log is the embedded S3's, which --s3-endpoint replaces", file=sys.stderr)
        return USAGE
    if not 0 <= args.port <= 65_535:
        print("heavylift up: a port is 0 to 65535", file=sys.stderr)
        return USAGE
    # The stack writes nothing beside its data folder, byte code included.
    sys.dont_write_bytecode = True
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())

    from heavylift_local.external import ExternalError, find
    from heavylift_local.plan import PlanError
    from heavylift_local.stack import Options, Stack, StackError
    from heavylift_local.workers import WorkerError

    given: dict[str, Any] = {
        "port": args.port,
        "data": args.data,
        "events": not args.no_events,
        "access_log": args.access_log.resolve() if args.access_log else None,
    }
    given |= {name: getattr(args, name).resolve() for name in ("topology", "functions") if getattr(args, name)}
    _log_to_stderr()
    try:
        if args.s3_endpoint:
            given["external"] = find(args.s3_endpoint)
        stack = Stack(Options(**given), os.environ)
    except (PlanError, ExternalError, OSError) as error:
        print(f"heavylift up: {error}", file=sys.stderr)
        return USAGE
    try:
        ready = stack.start()
        _log_to_file(stack.folder / "logs" / "up.log")
        stack.announce()
        if args.json or not sys.stdout.isatty():
            print(json.dumps(ready), flush=True)
        else:
            print(f"heavylift is up: {ready['page']} (S3 {ready['s3']}, data {ready['data']}); ^C stops it", flush=True)
        while not stop.wait(0.5):
            if stack.failed:
                print("heavylift up: a server keeps dying; see the logs", file=sys.stderr)
                return NOT_WELL
        return OK
    except (PlanError, StackError, WorkerError, ExternalError) as error:
        print(f"heavylift up: {error}", file=sys.stderr)
        return NOT_WELL
    finally:
        logging.getLogger().handlers = [h for h in logging.getLogger().handlers if not _is_file(h)]
        stack.stop()


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(os.environ.get("HEAVYLIFT_LOG_LEVEL", "WARNING").upper())


def _log_to_file(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _is_file(handler: logging.Handler) -> bool:
    """Closes a file handler on its way out: its folder is about to be removed."""
    if not isinstance(handler, logging.FileHandler):
        return False
    handler.close()
    return True


def _api() -> str | None:
    """The stack that is meant: HEAVYLIFT_API, else the running one of this user."""
    from heavylift_local import discovery

    if given := os.environ.get("HEAVYLIFT_API"):
        return given.rstrip("/")
    found = discovery.running()
    return found["api"] if found else None


def _no_stack(name: str) -> int:
    print(f"heavylift {name}: no local stack is running; start one with `heavylift up`", file=sys.stderr)
    return NOT_WELL


def _token(args: argparse.Namespace) -> int:
    from heavylift_local import discovery

    api = _api()
    if api is None:
        return _no_stack("token")
    try:
        print(discovery.ask_token(api, args.tenant, args.user, args.scope))
    except OSError as error:
        print(f"heavylift token: {error}", file=sys.stderr)
        return NOT_WELL
    return OK


def _adopt(args: argparse.Namespace) -> int:
    from heavylift_local import discovery

    api = _api()
    if api is None:
        return _no_stack("adopt")
    status = OK
    token = discovery.ask_token(api, args.tenant)
    for file in args.files:
        try:
            line = _call(f"{api}/_local/adopt", {"path": str(Path(file).resolve()), "tenant": args.tenant})
            if not args.no_wait:
                line["status"] = _wait(api, token, line["file_id"])
        except OSError as error:
            print(f"heavylift adopt: {file}: {error}", file=sys.stderr)
            status = NOT_WELL
            continue
        if not args.no_wait and line["status"] != "completed":
            status = NOT_WELL
        print(json.dumps(line) if args.json or not sys.stdout.isatty() else _words(line), flush=True)
    return status


def _words(line: dict[str, Any]) -> str:
    return f"{line['name']}: {line['status']} ({line['kind']}, {line['size']:,} bytes) {line['file_id']}"


def _wait(api: str, token: str, file_id: str) -> str:
    """The status that the file ends with."""
    while True:
        record = _call(f"{api}/v1/files/{file_id}", None, token)
        if record.get("final"):
            return str(record["status"])
        time.sleep(WAIT_POLL_S)


def _call(url: str, body: object | None, token: str | None = None) -> dict[str, Any]:
    """A JSON call to the stack; raises OSError with the answer's sentence."""
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method="GET" if body is None else "POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        content = error.read(2000)
        try:
            message = json.loads(content).get("message") or json.loads(content).get("detail")
        except (ValueError, AttributeError):
            message = content.decode(errors="replace")
        raise OSError(f"{error.code} {message}") from None
