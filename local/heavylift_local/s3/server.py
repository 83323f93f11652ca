"""The server: one thread a connection, one way through for every request.

parse -> OPTIONS is CORS -> authenticate -> which operation -> bucket -> may they -> arguments -> body -> commit.
Everything up to the arguments is decided before a byte of the body is read and before 100 Continue is sent.
"""

import base64
import fcntl
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus

from heavylift_local import traps
from heavylift_local.s3 import cors, routes
from heavylift_local.s3.admin import PREFIX, Admin
from heavylift_local.s3.auth import authenticate
from heavylift_local.s3.body import Body
from heavylift_local.s3.conditions import http_date
from heavylift_local.s3.config import Config
from heavylift_local.s3.counters import AccessLog, Counters
from heavylift_local.s3.errors import S3Error
from heavylift_local.s3.events import Outbox
from heavylift_local.s3.faults import FaultState
from heavylift_local.s3.request import (
    BadHead,
    Request,
    Response,
    check_names,
    hoist,
    locate,
    parse_head,
)
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import Store
from heavylift_local.s3.sweeper import Sweeper
from heavylift_local.s3.wire import (
    GOODBYE_SECONDS,
    LINGER_SECONDS,
    Connection,
    HeadTooLarge,
    PeerGone,
    PeerSlow,
    head_bytes,
)
from heavylift_local.s3.xml import error_document

HOST = "127.0.0.1"
BACKLOG = 512
SMALL_BODY_BYTES = 64 * 1024  # a file body up to this leaves in the same send as its head
STOP_SECONDS = 5  # requests in flight get this long to end
HOST_ID = base64.b64encode(secrets.token_bytes(24)).decode()
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class S3Server:
    """A strict S3 on the loopback interface. `start` returns when it serves; `stop` when nothing of it is left."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.clock = clock
        self.faults = FaultState()
        self.counters = Counters()
        self._connections: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(config.limits.connections_max)
        self._stopping = False
        self._date = (0, "")

    def start(self) -> "S3Server":
        config = self.config
        config.data.mkdir(parents=True, exist_ok=True)
        self._lock_file = (config.data / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            raise RuntimeError(f"{config.data} is in use by another server") from None
        self.store = Store(config.data, fsync=config.fsync, account=config.account)
        self.store.configure(config.buckets)
        self.outbox = Outbox(self.store, config.event_sink)
        callers = {caller.access_key: caller for caller in config.callers}
        self.service = Service(config, self.store, self.outbox, callers, self.now)
        self._admin = Admin(self.service, self.faults, self.counters)
        self._log = AccessLog(config.access_log)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, config.port))
        self._socket.listen(BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self.outbox.start()
        self.sweeper = Sweeper(self.service)
        self.sweeper.start()
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._acceptor.start()
        return self

    def now(self) -> float:
        """Seconds since 1970, moved by the fault `clock_offset_s`."""
        return self.clock() + self.faults.now.clock_offset_s

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def stop(self) -> None:
        """Idle connections end at once, requests in flight get STOP_SECONDS."""
        self._stopping = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        self._acceptor.join(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        with self._lock:
            threads = list(self._threads)
            for connection in self._connections:
                if connection.idle_since is not None:
                    connection.interrupt()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            for connection in self._connections:
                connection.interrupt()
        for thread in threads:
            thread.join(1)
        self.sweeper.stop()
        self.outbox.stop()
        self.store.close()
        self._log.close()
        self._lock_file.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, address = self._socket.accept()
            except OSError:
                if self._stopping:
                    return
                time.sleep(0.05)  # out of descriptors: some will be given back
                continue
            while not self._places.acquire(timeout=0.05):
                self._end_oldest_idle()
            connection = Connection(sock, address[0], self.config.limits)
            thread = threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True)
            with self._lock:
                self._connections.add(connection)
                self._threads.add(thread)
            thread.start()

    def _end_oldest_idle(self) -> None:
        """Every place is taken: whoever has said nothing for longest makes room."""
        with self._lock:
            idle = [(c.idle_since, id(c), c) for c in self._connections if c.idle_since is not None]
        if idle:
            min(idle)[2].interrupt()

    def _serve(self, connection: Connection) -> None:
        try:
            while not self._stopping and self._one(connection):
                pass
        except (PeerGone, PeerSlow):
            pass
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
                self._threads.discard(threading.current_thread())
            self._places.release()

    def _one(self, connection: Connection) -> bool:
        """One request and its answer; whether the connection goes on."""
        request: Request | None = None
        try:
            head = connection.read_head()
            if head is None:
                return False
            request = parse_head(head, connection.peer)
        except (HeadTooLarge, BadHead, PeerSlow) as error:
            code = {HeadTooLarge: "RequestHeaderSectionTooLarge", PeerSlow: "RequestTimeout"}.get(type(error))
            request = Request("GET", "/", "HTTP/1.1", {}, connection.peer)
            self._send(connection, request, self._error(request, S3Error(code or "BadRequest")), close=True)
            connection.linger()
            return False
        started = time.perf_counter()
        if request.path == b"" and request.target.encode("latin-1").startswith(PREFIX):
            return self._admin_request(connection, request)
        body = request.body = Body(request, connection)
        code, response, sent = "", None, 0
        with ExitStack() as held:
            try:
                response = self._respond(request, held)
            except S3Error as error:
                code, response = error.code, self._error(request, error)
            except PeerSlow:
                code, response = "RequestTimeout", self._error(request, S3Error("RequestTimeout"))
                response.close = True
            except PeerGone:
                self._record(request, started, 0, "ConnectionLost", 0, answered=False)
                raise
            except Exception:  # noqa: BLE001 - the top of the loop: one broken request must not end the server
                traceback.print_exc(file=sys.stderr)
                code, response = "InternalError", self._error(request, S3Error("InternalError"))
            close = response.close or not request.keep_alive or self._stopping or not body.reusable_after_drain
            self._add_cors(request, response)
            self.counters.answering()
            try:
                sent = self._send(connection, request, response, close=close)
            except (PeerGone, PeerSlow):
                code = "ConnectionLost"
                raise
            finally:
                self._record(request, started, response.status, code, sent, answered=True)
        if close:
            connection.linger(GOODBYE_SECONDS if body.complete else LINGER_SECONDS)
            return False
        body.drain()
        return True

    def _respond(self, request: Request, held: ExitStack) -> Response:
        locate(request, self.config.domains)
        if request.method == "OPTIONS":
            return self._preflight(request)
        # A form is signed inside its body; its operation looks there, before it takes the file.
        operation = routes.form_operation(request)
        if operation is None:
            pinned = self.config.pinned_region
            request.signed = authenticate(request.auth_head(), self.service.callers, pinned, self.now())
            request.caller = request.signed.caller
            if request.signed.mechanism == "query":
                hoist(request)
            operation = routes.operation_of(request)
        request.operation = operation.name
        caller = request.caller_name
        faults = self.faults.now.of(caller)
        if request.body is not None:
            request.body.cut_after(faults.cut_after_bytes)
        if latency_s := faults.latency_s(operation.name):
            time.sleep(latency_s)
        error = self.faults.error(caller, operation.name)
        if error is not None:
            raise error
        if operation.needs_bucket and request.bucket:
            self.service.bucket(request.bucket)
        if operation.action is not None:
            resource = f"{request.bucket}/{request.key}" if request.key else request.bucket or "*"
            self.service.authorize(request, operation.action, resource)
        owner = request.headers.get("x-amz-expected-bucket-owner")
        if owner is not None and owner != self.config.account:
            if not owner.isascii() or not owner.isdigit() or len(owner) != 12:
                message = f"The value of the expected bucket owner parameter must be an AWS Account ID... [{owner}]"
                raise S3Error("InvalidBucketOwnerAWSAccountID", message, status=400)
            raise S3Error("AccessDenied")
        check_names(request, operation.parameters, operation.headers)
        if not operation.takes_body and request.headers.get("transfer-encoding"):
            raise S3Error("NotImplemented", fields={"Header": "Transfer-Encoding"})
        if operation.reads:
            held.enter_context(self.store.blobs.reading())
        return self._carry_out(operation, request)

    def _tell(self, sprung: traps.Sprung) -> bool:
        return self.config.call_sink is not None and traps.tell(self.config.call_sink, sprung)

    def _carry_out(self, operation: routes.Operation, request: Request) -> Response:
        """The operation, between the faults that wait for it."""
        caller = request.caller_name
        sprung = self.faults.traps.arrived(caller, operation.name)
        if sprung is not None and sprung.when == traps.BEFORE and self._tell(sprung):
            raise S3Error("InternalError", "The caller was ended by a fault.")
        late = self.faults.late_error(caller, operation.name)
        if late is not None and not late[1]:
            raise late[0]
        response = operation.handler(self.service, request)
        if late is not None:
            raise late[0]
        if sprung is not None and sprung.when == traps.AFTER:
            self._tell(sprung)
        return response

    def _preflight(self, request: Request) -> Response:
        request.operation = "Preflight"
        bucket = self.store.buckets.get(request.bucket)
        headers = cors.preflight(
            bucket.cors if bucket else None,
            request.headers.get("origin"),
            request.headers.get("access-control-request-method"),
            request.headers.get("access-control-request-headers"),
            "OBJECT" if request.key else "BUCKET",
        )
        return Response(200, headers)

    def _add_cors(self, request: Request, response: Response) -> None:
        """Real requests, errors included: a page must be able to read why it was refused."""
        origin = request.headers.get("origin")
        if origin and request.method != "OPTIONS":
            bucket = self.store.buckets.get(request.bucket)
            if bucket is not None:
                response.headers += cors.actual(bucket.cors, origin, request.method)

    def _error(self, request: Request, error: S3Error) -> Response:
        headers = list(error.headers.items())
        if error.status == HTTPStatus.NOT_MODIFIED or request.method == "HEAD":
            return Response(error.status, headers)
        body = error_document(error, request.request_id, HOST_ID)
        return Response(error.status, [("Content-Type", "application/xml"), *headers], body)

    def _send(self, connection: Connection, request: Request, response: Response, *, close: bool) -> int:
        """Head and body in one flush; returns the body bytes that went out."""
        status = response.status
        length = response.length if response.slices is not None or request.method == "HEAD" else len(response.body)
        if request.method == "HEAD" and not response.length:
            length = len(response.body)
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, http_date(second * 1000))
        headers = [
            ("x-amz-id-2", HOST_ID),
            ("x-amz-request-id", request.request_id),
            ("Date", self._date[1]),
            ("Server", "heavylift"),
            *response.headers,
        ]
        if status not in (204, 304):
            headers.append(("Content-Length", str(length)))
        if close:
            headers.append(("Connection", "close"))
        head = head_bytes(status, _REASONS.get(status, "Unknown"), headers)
        if request.method == "HEAD" or status in (204, 304):
            connection.send(head)
            return 0
        if response.slices is None:
            connection.send(head + response.body)
            return len(response.body)
        return self._send_slices(connection, request, head, response)

    def _send_slices(self, connection: Connection, request: Request, head: bytes, response: Response) -> int:
        blobs = self.store.blobs
        cut_after = self.faults.now.of(request.caller_name).cut_after_bytes
        slices = response.slices or ()
        if cut_after is None and response.length <= SMALL_BODY_BYTES:
            pieces = [head]
            for blob, offset, length in slices:
                fd = blobs.open(blob)
                try:
                    pieces.append(os.pread(fd, length, offset))
                finally:
                    os.close(fd)
            data = b"".join(pieces)
            connection.send(data)
            if len(data) - len(head) < response.length:
                raise PeerGone  # a file that was adopted became shorter: the peer must not take this for whole
            return response.length
        connection.send(head, more=True)
        sent = 0
        for blob, offset, length in slices:
            fd = blobs.open(blob)
            try:
                if cut_after is not None:
                    length = min(length, cut_after - sent)
                got = connection.send_file(fd, offset, length)
            finally:
                os.close(fd)
            sent += got
            if got < length or (cut_after is not None and sent >= cut_after and sent < response.length):
                raise PeerGone
        return sent

    def _admin_request(self, connection: Connection, request: Request) -> bool:
        body = request.body = Body(request, connection)
        try:
            locate(request)
            response = self._admin.answer(request)
        except S3Error as error:
            response = self._error(request, error)
        except (PeerGone, PeerSlow):
            raise
        except Exception:  # noqa: BLE001 - the top of the loop, as above
            traceback.print_exc(file=sys.stderr)
            response = Response(500, [], b'{"message":"internal error"}')
        close = not request.keep_alive or not body.reusable_after_drain
        self._send(connection, request, response, close=close)
        if close:
            connection.linger()
            return False
        body.drain()
        return True

    def _record(
        self, request: Request, started: float, status: int, code: str, bytes_out: int, *, answered: bool
    ) -> None:
        bytes_in = request.body.received if request.body else 0
        self.counters.add(request.caller_name, request.operation, bytes_in, bytes_out, answered=answered)
        if self.config.access_log is not None:
            self._log.write(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "caller": request.caller_name,
                    "operation": request.operation,
                    "bucket": request.bucket,
                    "key": request.key,
                    "status": status,
                    "error": code or None,
                    "bytes_in": bytes_in,
                    "bytes_out": bytes_out,
                    "ms": round((time.perf_counter() - started) * 1000, 3),
                }
            )
