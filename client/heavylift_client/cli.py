"""The ``heavylift`` command.

Exit status: 0 every file ended well, 1 some did not (or the API refused), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heavylift_client import show
from heavylift_client.errors import ClientError, Stopped
from heavylift_client.pace import FIRST, MOST
from heavylift_client.sources import item_of

if TYPE_CHECKING:
    from heavylift_client.client import Client

WELL, NOT_WELL, USAGE, INTERRUPTED = 0, 1, 2, 130
# Commands of the local stack, which need not be installed where only the client is.
LOCAL = {
    "up": "run the whole system on this machine",
    "token": "print a development token of the running stack",
    "adopt": "make a file of this disk an object of the local store, without copying it",
}
PATIENCE_S = 900.0  # put, get, archive: ten minutes without network are survived, with all that follows
ONE_CALL_PATIENCE_S = 15.0  # a person waits for the answer
CONCURRENCY_MAX = 64

Run = Callable[[argparse.Namespace], int]


class UsageError(Exception):
    """The command line cannot be carried out; exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name must not stop the command
    try:
        parser = build_parser(arguments[0] if arguments else None)
        parsed = parser.parse_args(arguments)
        run: Run = parsed.run
        return run(parsed)
    except UsageError as error:
        print(f"heavylift: {error}", file=sys.stderr)
        return USAGE
    except (KeyboardInterrupt, Stopped):
        print("heavylift: interrupted; what was stored stays, running the same again resumes", file=sys.stderr)
        return INTERRUPTED
    except ClientError as error:
        print(f"heavylift: {show.printable(str(error))}", file=sys.stderr)
        return NOT_WELL
    except BrokenPipeError:
        # Whoever read our output went away; the rest must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_WELL
    except OSError as error:
        print(f"heavylift: {show.printable(str(error))}", file=sys.stderr)
        return NOT_WELL


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; the options of a local command are asked from the local stack only if it is the one meant."""
    parser = argparse.ArgumentParser(
        prog="heavylift", description="Very large files into S3, and made useful there.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Run, words: str, *, api: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        sub.set_defaults(run=run)
        if api:
            sub.add_argument("--api", metavar="URL", help="the API's address (default: HEAVYLIFT_API)")
            sub.add_argument("--token", metavar="T", help="bearer token (default: HEAVYLIFT_TOKEN)")
        if name not in LOCAL:
            sub.add_argument("--json", action="store_true", help="the API's answer on one line")
        return sub

    put = add("put", _put, "upload files and folders, and wait for what becomes of them")
    put.add_argument("paths", nargs="+", metavar="PATH")
    put.add_argument("--kind", help="image, raw, dicom, table, json, text, archive or other")
    put.add_argument("--type", help="declared media type; found by content if not given")
    put.add_argument("--data-type")
    put.add_argument("--description")
    put.add_argument("--logical-id")
    put.add_argument("--metadata", action="append", default=[], metavar="K=V", type=_pair)
    put.add_argument("--rules", metavar="FILE", help="validation rules, JSON")
    put.add_argument(
        "--concurrency",
        type=_concurrency,
        metavar="N",
        help=f"parts on the wire, at most (default: found by measuring, {FIRST} to {MOST})",
    )
    put.add_argument("--no-wait", action="store_true", help="end when the bytes are there")
    _add_patience(put)

    get = add("get", _get, "download a file, an archive, or one member of an archive")
    get.add_argument("id", metavar="ID")
    get.add_argument("--member", metavar="N|NAME", help="of an archive: by its number, from 0, or its name inside")
    get.add_argument("-o", "--output", required=True, metavar="FILE")
    get.add_argument("--concurrency", type=_concurrency, default=4, metavar="N")
    _add_patience(get)

    thumbs = add("thumbs", _thumbs, "download the thumbnails of a file")
    thumbs.add_argument("id", metavar="ID")
    thumbs.add_argument("-o", "--output", required=True, metavar="DIR")

    status = add("status", _status, "what is known about an upload, a file, a batch or an archive")
    status.add_argument("id", metavar="ID")

    ls = add("ls", _ls, "list files, newest first")
    for name in ("status", "kind", "fingerprint", "batch-id", "logical-id"):
        ls.add_argument(f"--{name}")
    ls.add_argument("--uploads", action="store_true", help="upload sessions instead of files")
    ls.add_argument("--limit", type=int, metavar="N")
    ls.add_argument("--next-token", metavar="T", help="go on where a page with --json ended")

    cancel = add("cancel", _cancel, "cancel an upload, a batch, or the making of an archive")
    cancel.add_argument("id", metavar="ID")

    retry = add("retry", _retry, "run the failed stage of a file again")
    retry.add_argument("id", metavar="ID")
    retry.add_argument("--force", action="store_true")
    retry.add_argument("--rules", metavar="FILE")

    cleanup = add("cleanup", _cleanup, "delete failed uploads")
    cleanup.add_argument("--hours-old", type=float, required=True, metavar="N")

    add("stats", _stats, "uploads, bytes and speed")

    report = add("report", _report, "the validation report of a file")
    report.add_argument("id", metavar="ID")

    archive = add("archive", _archive, "let a ZIP be made, and download it")
    archive.add_argument("ids", nargs="*", metavar="ID")
    archive.add_argument("--batch", metavar="ID")
    archive.add_argument("--logical-id", metavar="L")
    archive.add_argument("--study", metavar="UID")
    archive.add_argument("--name")
    archive.add_argument("--package", choices=("plain", "bagit"))
    archive.add_argument("--on-missing", choices=("fail", "skip"))
    archive.add_argument("-o", "--output", required=True, metavar="FILE")
    archive.add_argument("--concurrency", type=_concurrency, default=4, metavar="N")
    _add_patience(archive)

    studies = add("studies", _studies, "list DICOM studies")
    studies.add_argument("--batch", metavar="ID", help="those to which files of this batch belong")
    for name, words in STUDY_FILTERS.items():
        studies.add_argument(f"--{name}", metavar=words[0], help=words[1])

    validate = add("validate", _validate, "validate a table on this machine, without a server", api=False)
    validate.add_argument("file", metavar="FILE")
    validate.add_argument("--rules", metavar="FILE")

    for name, words in LOCAL.items():
        sub = add(name, _local, words, api=False)
        sub.set_defaults(command=name)
        if name == command:
            _local_commands().add_arguments(name, sub)
    return parser


def _add_patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_S,
        metavar="SECONDS",
        help=f"how long the API or the store may be away (default {PATIENCE_S:g})",
    )


# commands


def _put(args: argparse.Namespace) -> int:
    from heavylift_client.client import declare

    said = {
        "kind": args.kind,
        "type": args.type,
        "data_type": args.data_type,
        "description": args.description,
        "logical_id": args.logical_id,
        "metadata": dict(args.metadata),
        "rules": _rules(args.rules),
    }
    declared = declare(**said)
    people = _people(args)
    progress = show.Progress(visible=people and sys.stderr.isatty(), total=0)

    folders = [path for path in args.paths if os.path.isdir(path)]
    files = [path for path in args.paths if path not in folders]
    well = True
    try:
        with _client(args, concurrency=args.concurrency, patience_s=args.patience, progress=progress) as client:
            for path in files:
                progress.add_total(_size(path))
            for result in client.put_many([item_of(path, declared) for path in files], wait=not args.no_wait):
                well = well and result.ok
                progress.line(show.put_line(result) if people else _one_line(result.line()))
            for path in folders:
                well = _put_folder(args, client, path, said, progress) and well
    finally:
        progress.close()
    return WELL if well else NOT_WELL


def _put_folder(
    args: argparse.Namespace, client: Client, path: str, said: Mapping[str, Any], progress: show.Progress
) -> bool:
    """A folder as a batch: a line a file, then the batch; whether all ended well."""
    people = _people(args)
    well = True
    try:
        with client.upload_batch(path, wait=not args.no_wait, **said) as batch:
            for result in batch:
                well = well and result.ok
                progress.line(show.put_line(result) if people else _one_line(result.line()))
            if batch.record is not None:
                for line in show.facts(batch.record) if people else [_one_line(batch.record)]:
                    progress.line(line)
            return well and batch.ok
    except Stopped:
        raise
    except ClientError as error:  # the other paths go on
        progress.notice(f"{path}: {error}")
        return False


def _get(args: argparse.Namespace) -> int:
    progress = show.Progress(visible=_people(args) and sys.stderr.isatty(), total=None)
    try:
        with _client(args, concurrency=args.concurrency, patience_s=args.patience, progress=progress) as client:
            if args.member is None:
                done = client.get(args.id, args.output)
            else:
                member = int(args.member) if args.member.isdecimal() and args.member.isascii() else args.member
                done = client.get_member(args.id, member, args.output)
    finally:
        progress.close()
    body = {
        "file_id": args.id,
        **({} if args.member is None else {"member": args.member}),
        "path": done.path,
        "size": done.size,
        "crc32": done.crc32,
        "verified": done.verified,
        "bytes_received": done.bytes_received,
        "bytes_resumed": done.bytes_resumed,
    }
    proof = f"proven by {done.verified}" if done.verified else "the record has no checksum to compare with"
    _tell(args, body, [f"{done.path}: {show.size_in_words(done.size)}, {proof}"])
    return WELL


def _thumbs(args: argparse.Namespace) -> int:
    with _client(args) as client:
        saved = client.thumbs(args.id, args.output)
    _tell(args, {"file_id": args.id, "thumbnails": saved}, show.facts({"thumbnails": saved}))
    if not saved:
        print("heavylift: this file has no thumbnails", file=sys.stderr)
        return NOT_WELL
    return WELL


def _status(args: argparse.Namespace) -> int:
    with _client(args) as client:
        body = client.status(args.id)
    _tell(args, body, show.facts(body))
    return WELL


def _ls(args: argparse.Namespace) -> int:
    filters = {name: getattr(args, name) for name in ("status", "kind", "fingerprint", "batch_id", "logical_id")}
    with _client(args) as client:
        if args.json or args.next_token:
            body = client.page(uploads=args.uploads, limit=args.limit, next_token=args.next_token, **filters)
            _tell(args, body, show.table(body.get("items") or ()))
        else:
            for item in client.ls(uploads=args.uploads, limit=args.limit, **filters):
                print(show.table([item])[0], flush=True)
    return WELL


def _cancel(args: argparse.Namespace) -> int:
    with _client(args) as client:
        body = client.cancel(args.id)
    status = body.get("status", "cancelled")
    _tell(args, body, [f"{args.id} {status}"])
    return WELL if status == "cancelled" else NOT_WELL


def _retry(args: argparse.Namespace) -> int:
    rules = _rules(args.rules)
    with _client(args) as client:
        body = client.retry(args.id, force=args.force, rules=rules)
    _tell(args, body, show.facts(body) or [f"{args.id} will be tried again"])
    return WELL


def _cleanup(args: argparse.Namespace) -> int:
    with _client(args) as client:
        body = client.cleanup(args.hours_old)
    _tell(args, body, show.facts(body))
    return WELL


def _stats(args: argparse.Namespace) -> int:
    with _client(args) as client:
        body = client.stats()
    _tell(args, body, show.facts(body))
    return WELL


def _report(args: argparse.Namespace) -> int:
    with _client(args) as client:
        body = client.report(args.id)
    _tell(args, body, show.report(body) if _people(args) else json.dumps(body, indent=2).splitlines())
    return WELL


def _archive(args: argparse.Namespace) -> int:
    chosen = {
        "file_ids": args.ids or None,
        "batch_id": args.batch,
        "logical_id": args.logical_id,
        "study_uid": args.study,
    }
    if sum(value is not None for value in chosen.values()) != 1:
        raise UsageError("archive wants file ids, or one of --batch, --logical-id, --study")
    wanted = {name: value for name, value in chosen.items() if value is not None}
    wanted |= {n: getattr(args, n) for n in ("name", "package", "on_missing") if getattr(args, n) is not None}
    progress = show.Progress(visible=_people(args) and sys.stderr.isatty(), total=None)
    try:
        with _client(args, concurrency=args.concurrency, patience_s=args.patience, progress=progress) as client:
            body = client.archive(wanted, args.output)
    finally:
        progress.close()
    well = body.get("status") == "completed"
    lines = show.facts(body)
    if well:
        lines.append(f"{args.output}: {show.size_in_words(int(body['size']))}, proven by crc32")
    _tell(args, body, lines)
    return WELL if well else NOT_WELL


# Option -> its value's name, what it does, the attribute of QIDO-RS.
STUDY_FILTERS = {
    "patient-id": ("ID", "of this patient", "PatientID"),
    "patient-name": ("NAME", "with wildcards: DOE*", "PatientName"),
    "accession": ("NUMBER", "of this order", "AccessionNumber"),
    "date": ("DATE", "yyyymmdd, or a range: 20240101-20240131", "StudyDate"),
    "modality": ("CT", "with series of this modality", "ModalitiesInStudy"),
    "limit": ("N", "at most so many", "limit"),
}


def _studies(args: argparse.Namespace) -> int:
    given = {what[2]: getattr(args, name.replace("-", "_")) for name, what in STUDY_FILTERS.items()}
    filters = {name: value for name, value in given.items() if value is not None}
    if args.batch is not None and filters:
        raise UsageError("studies wants --batch or filters, not both")
    with _client(args) as client:
        body = client.studies(batch_id=args.batch, **filters)
    _tell(args, body, show.studies(body))
    return WELL


def _validate(args: argparse.Namespace) -> int:
    try:
        there = importlib.util.find_spec("heavylift.tables") is not None
    except ModuleNotFoundError:
        there = False
    command = importlib.import_module("heavylift.tables") if there else None
    validate_file = getattr(command, "validate_file", None)
    if validate_file is None:
        raise UsageError("validate is not available yet: this installation has no table validator")
    progress = show.Progress(visible=_people(args) and sys.stderr.isatty(), total=_size(args.file))
    try:
        report = validate_file(args.file, rules=_rules(args.rules), progress=progress.moved)
    except OSError as error:
        raise UsageError(f"{args.file}: {error.strerror or error}") from None
    except importlib.import_module("heavylift.errors").HeavyliftError as error:  # the rules are wrong
        raise UsageError(f"--rules: {error.message}") from None
    finally:
        progress.close()
    _tell(args, report, show.report(report) if _people(args) else json.dumps(report, indent=2).splitlines())
    return WELL if report.get("valid") else NOT_WELL


def _local(args: argparse.Namespace) -> int:
    return int(_local_commands().run(args.command, args))


def _local_commands() -> Any:
    try:
        return importlib.import_module("heavylift_local.commands")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("heavylift_local"):
            raise UsageError("the local stack is not installed here, only the client") from None
        raise


# what the commands share


def _running_stack() -> dict[str, str] | None:
    """The local stack that this user has running, so that trying it out needs no options; else None."""
    try:
        discovery = importlib.import_module("heavylift_local.discovery")
    except ModuleNotFoundError:
        return None
    found: dict[str, str] | None = discovery.running()
    return found


def _client(
    args: argparse.Namespace,
    *,
    concurrency: int | None = None,
    patience_s: float | None = None,
    progress: show.Progress | None = None,
) -> Client:
    from heavylift_client.client import Client

    api = args.api or os.environ.get("HEAVYLIFT_API")
    token = args.token or os.environ.get("HEAVYLIFT_TOKEN")
    if not api and (found := _running_stack()):
        api, token = found["api"], token or found["token"]
    if not api:
        raise UsageError("where is the API? give --api URL, set HEAVYLIFT_API, or start one here with `heavylift up`")
    if not token:
        raise UsageError("who is asking? give --token T or set HEAVYLIFT_TOKEN")
    if any(c.isspace() or not c.isprintable() or ord(c) > 126 for c in token):
        raise UsageError("the token holds characters that no token has")
    progress = progress or show.Progress(visible=False, total=None)
    try:
        return Client(
            api,
            token,
            concurrency=concurrency,
            patience_s=ONE_CALL_PATIENCE_S if patience_s is None else patience_s,
            hooks=progress.hooks(),
        )
    except ClientError as error:
        raise UsageError(f"--api: {error.message}") from None


def _people(args: argparse.Namespace) -> bool:
    """Whether a person reads the output, not a program."""
    return not args.json and sys.stdout.isatty()


def _tell(args: argparse.Namespace, body: Any, lines: Iterable[str]) -> None:
    if args.json:
        print(_one_line(body), flush=True)
    else:
        for line in lines:
            print(line, flush=True)


def _one_line(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _rules(path: str | None) -> Any:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UsageError(f"--rules {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--rules {path}: this is no JSON") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    return name, value


def _concurrency(text: str) -> int:
    number = int(text)
    if not 1 <= number <= CONCURRENCY_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not in 1..{CONCURRENCY_MAX}")
    return number


if __name__ == "__main__":
    sys.exit(main())
