"""The supervisor: realises the topology on this machine, and takes it down again without leaving anything.

``Stack.start`` returns when everything answers. The order matters: the gateway's port is taken first
(S3's CORS rules name it), the queues come before S3 (its undelivered events arrive at once), functions last.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heavylift_local import discovery, external, faults, plan
from heavylift_local.access import Caller, Callers, Grant, merge_counts
from heavylift_local.bus import Bus
from heavylift_local.events import EventHub, target
from heavylift_local.gateway import pages
from heavylift_local.gateway.authorizer import Authorizer
from heavylift_local.gateway.routing import Router
from heavylift_local.gateway.server import Gateway
from heavylift_local.internal import Internal
from heavylift_local.local_api import LocalEndpoints
from heavylift_local.poller import Poller, Watch, period_seconds
from heavylift_local.runtime import processes
from heavylift_local.runtime.child import (
    ASYNC_PAYLOAD_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Launch,
    Outcome,
    error_payload,
)
from heavylift_local.runtime.pool import Fault, Pool
from heavylift_local.scanner import StubScanner
from heavylift_local.serving import LoopbackServer
from heavylift_local.sources import QueueSource, Schedule, retry_delays, scheduled_event
from heavylift_local.sqs.queue import Message, Queue
from heavylift_local.sqs.server import QueueService
from heavylift_local.workers import Worker

FIRST_SCHEDULE_S = 1.0
QUEUES_SAVED_EVERY_S = 2.0
ADMIN_SECONDS_MAX = 10.0
DAY_S = 86_400
LOCK_SECONDS_MAX = 3.0  # a stack that was killed a moment ago is still being cleaned up by its guard
DEMO_TENANT, DEMO_USER = "demo", "developer"

logger = logging.getLogger(__name__)


class StackError(Exception):
    """The stack cannot start; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    port: int = 0
    data: Path | None = None
    events: bool = True
    access_log: Path | None = None
    topology: Path = plan.REPOSITORY / "infra" / "topology.py"
    functions: Path = plan.REPOSITORY / "functions"
    layer: Path = plan.REPOSITORY / "layers" / "heavylift" / "python"
    web: Path = plan.REPOSITORY / "web"
    s3_module: str = "heavylift_local.s3"
    external: external.External | None = None
    """Another S3 in place of the embedded one."""


class Stack:
    """One running stack; ``start`` once, ``stop`` once."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        self.options = options
        self._outer = environment
        self.external = options.external
        self.region = plan.REGION if self.external is None else self.external.region
        self._external_client: Any = None
        self._made_buckets: list[str] = []
        self._poller: Poller | None = None
        self._own_servers: dict[str, LoopbackServer] = {}
        self.scale = plan.time_scale(environment)
        self.topology: Any = plan.load_topology(options.topology)
        self.temporary = options.data is None
        self.folder = Path(tempfile.mkdtemp(prefix="heavylift-")) if options.data is None else options.data.resolve()
        self.scratch = self.folder / "tmp" / secrets.token_hex(8)
        self.started_at = time.monotonic()
        self._stopped = threading.Event()
        self._event_gate = threading.Lock()
        self._lock_file: Any = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._sources: list[QueueSource] = []
        self._schedules: list[Schedule] = []
        self.pools: dict[str, Pool] = {}
        self.queues: dict[str, Queue] = {}
        self._queue_changes = 0
        self._workers: list[Worker] = []
        self._entry: Path | None = None
        self._gateway: Gateway | None = None
        self._internal: LoopbackServer | None = None
        self.hub: EventHub | None = None
        self.scanner: StubScanner | None = None

    # Start.

    def start(self) -> dict[str, Any]:
        """Brings everything up; the ready document. Raises StackError, plan.PlanError or WorkerError."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._make_folder()
        self._start_guard()
        self.identity = plan.load_identity(self.folder / "stack.json", plan.callers(self.topology))
        suffix = ""
        if self.external is not None:
            # Kept out of stack.json: they are not ours.
            keys = dict.fromkeys(self.identity.keys, self.external.key)
            self.identity = replace(self.identity, keys=keys)
            suffix = plan.bucket_suffix(self.identity)
        self.bucket_names = plan.bucket_names(self.topology, suffix)
        origins = tuple(o.strip() for o in self._outer.get("HEAVYLIFT_CORS_ORIGINS", "").split(",") if o.strip())
        try:
            self._gateway = Gateway(self.options.port, plan.ACCOUNT, self.options.web, origins)
        except OSError as error:
            raise StackError(f"port {self.options.port} cannot be used: {error.strerror}") from None
        self._internal = LoopbackServer(Internal)
        self._internal.stack = self  # type: ignore[attr-defined]
        self.event_path = f"/events/{self.identity.admin_token}"
        self.call_path = f"/calls/{self.identity.admin_token}"
        call_sink = self._internal.url + self.call_path
        self._make_queues()
        event_sink = self._internal.url + self.event_path if self.options.events else None
        all_origins = (*self._gateway.origins, *origins)
        if self.external is None:
            config = plan.s3_config(
                self.topology,
                self.identity,
                self.folder / "s3",
                all_origins,
                0,
                event_sink,
                self.options.access_log,
                call_sink,
                self.scale,
                plan.signature_age_max(self._outer),
            )
            self.s3: Worker | None = self._worker("s3", self.options.s3_module, config)
        else:
            self.s3 = None
        self.tables = self._worker(
            "moto",
            "heavylift_local.tables",
            plan.tables_config(
                self.topology,
                self.identity,
                self.folder / "tables",
                0,
                call_sink,
                self.scale,
                self.region,
                own_ports=self.external is not None,
            ),
        )
        # Both are starting; meanwhile this process makes its own part ready.
        self._make_hub()
        self._internal.start("internal")
        if self.external is not None:
            self._external_client = external.client(self.external)
            self._made_buckets = external.prepare(
                self._external_client, self.region, self.topology.BUCKETS, self.bucket_names, all_origins
            )
        for worker in self._workers:
            worker.wait_ready()
        for worker in self._workers:
            worker.watch()
        self._make_pools()
        self.authorizer = Authorizer(self.identity.jwt_secret, self._outer.get("TENANT_CLAIM") or "tenant")
        self._gateway.page_origins = pages.Origins(buckets=self._bucket_origins())
        self._gateway.start(Router(self.topology.FUNCTIONS), self.authorizer, self._invoke_http, LocalEndpoints(self))
        if self.options.events:
            self._start_sources()
        self._save_queues_schedule = Schedule("queues", QUEUES_SAVED_EVERY_S, QUEUES_SAVED_EVERY_S, self._keep_house)
        self._save_queues_schedule.start()
        threading.Thread(target=self._prewarm, name="prewarm", daemon=True).start()
        ready = self._ready()
        plan.write_private(self.folder / "run.json", ready)
        return ready

    def _make_folder(self) -> None:
        for name in ("logs", "tmp", "config", "s3", "tables"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._lock_file = (self.folder / "lock").open("w")
        _lock(self._lock_file, self.folder)
        # What a killed stack left: temporary files of functions that no longer run.
        shutil.rmtree(self.folder / "tmp")
        self.scratch.mkdir(mode=0o700, parents=True)

    @property
    def _marker(self) -> str:
        """In the environment of every process of this run, and of nothing else."""
        return f"TMPDIR={self.scratch}"

    def _start_guard(self) -> None:
        self._entry = discovery.entry_path(os.getpid())
        command = [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("guard.py")), self._marker]
        command += ["--unlink", str(self._entry), "--unlink", str(self.folder / "run.json")]
        command += ["--remove", str(self.folder if self.temporary else self.folder / "tmp")]
        self._guard = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # With the lock's descriptor: the folder is in use until the guard has swept it too.
            pass_fds=(self._lock_file.fileno(),),
        )

    def _worker(self, name: str, module: str, config: Mapping[str, Any]) -> Worker:
        keep = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
        environment = {key: self._outer[key] for key in keep if key in self._outer}
        environment |= {"TMPDIR": str(self.scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        worker = Worker(name, module, config, self.folder, environment)
        worker.launch()
        self._workers.append(worker)
        return worker

    def _make_queues(self) -> None:
        assert self._internal is not None
        physical = plan.queue_names(self.topology)
        for queue in self.topology.QUEUES:
            dead = Queue(physical[f"{queue.name}-dlq"], 30, queue.dlq_retention_days * DAY_S)
            self.queues[f"{queue.name}-dlq"] = dead
            self.queues[queue.name] = Queue(
                physical[queue.name],
                plan.visibility_seconds(queue.visibility_s, self.scale),
                queue.retention_days * DAY_S,
                dead,
                queue.receive_count_max,
            )
        saved = self.folder / "queues.json"
        if saved.exists():
            for name, messages in json.loads(saved.read_text()).items():
                if name in self.queues:
                    self.queues[name].load(messages)
        everything = Grant(("*",), ("*",))
        callers = [Caller(plan.OPERATOR, self.identity.keys[plan.OPERATOR].access_key, (everything,))]
        for function in self.topology.FUNCTIONS:
            granted = plan.grants(function, "sqs") + plan.grants(function, "events")
            grants = tuple(Grant(tuple(g["actions"]), tuple(g["resources"])) for g in granted)
            callers.append(Caller(function.name, self.identity.keys[function.name].access_key, grants))
        self._callers = Callers(tuple(callers), plan.ACCOUNT)
        self.queue_service = QueueService(self.queues, self._callers, self._internal.url, self.region, plan.ACCOUNT)
        self.queue_service.spring = lambda sprung: self.end_caller(sprung.caller)

    def _make_hub(self) -> None:
        """S3's events and the bus: both end at the rules."""
        buckets = self.bucket_names

        def sender(queue: Queue) -> Any:
            return lambda body: queue.send(Message(body, sender="events.amazonaws.com"))

        rules = plan.rules(self.topology, self._outer)
        self.hub = EventHub([target(rule, buckets[rule.bucket], sender(self.queues[rule.queue])) for rule in rules])
        self.bus = Bus(
            self._callers,
            self.folder / "logs" / "bus.jsonl",
            self.region,
            plan.ACCOUNT,
            self.hub.publish_if_wanted,
            lambda sprung: self.end_caller(sprung.caller),
        )

    def _make_pools(self) -> None:
        census = processes.Census()
        assert self._internal is not None
        self.endpoints = plan.Endpoints(self.s3_url, self.tables.url, self._internal.url, self._internal.url)
        packages = Path(sysconfig.get_path("purelib"))
        bootstrap = Path(__file__).parent / "runtime" / "bootstrap.py"
        for function in self.topology.FUNCTIONS:
            root = self.options.functions / function.name
            if not (root / "handler.py").is_file():
                logger.warning("%s has no handler at %s", function.name, root)
            endpoints, names = self._addresses(function.name)
            environment = plan.function_environment(
                self.topology,
                function,
                names,
                self.identity.keys[function.name],
                endpoints,
                self._outer,
                self.scratch,
                self.scale,
                packages,
                root,
                self.region,
            )
            # The interpreter itself, not the environment's: what a handler starts in turn must not find
            # this project's other packages through the environment's site folder.
            interpreter = getattr(sys, "_base_executable", None) or sys.executable
            command = (interpreter, "-I", "-S", "-B", str(bootstrap), "handler.handler")
            launch = Launch(
                function.name,
                f"arn:aws:lambda:{self.region}:{plan.ACCOUNT}:function:{function.name}",
                (*command, str(root), str(self.options.layer), str(packages)),
                root,
                environment,
                function.memory_mb,
                function.timeout_s,
                self.folder / "logs" / f"{function.name}.log",
                function.ephemeral_mb,
                self.scratch,
            )
            self.pools[function.name] = Pool(launch, plan.children_max(function), census)

    def _addresses(self, function: str) -> tuple[plan.Endpoints, plan.Names]:
        """Where a function finds the services: where all share one key, at ports of its own."""
        assert self._internal is not None
        endpoints, queues_url = self.endpoints, self._internal.url
        if self.external is not None:
            server = LoopbackServer(Internal)
            server.stack, server.caller_name = self, function  # type: ignore[attr-defined]
            server.start(f"internal-{function}")
            self._own_servers[function] = server
            tables_url = f"http://127.0.0.1:{self.tables.ports[function]}"
            queues_url = server.url
            endpoints = plan.Endpoints(self.s3_url, tables_url, queues_url, queues_url)
        urls = {name: f"{queues_url}/{plan.ACCOUNT}/{queue.name}" for name, queue in self.queues.items()}
        return endpoints, plan.Names(self.bucket_names, self.topology.TABLE.name, urls)

    @property
    def s3_url(self) -> str:
        if self.external is not None:
            return self.external.endpoint
        assert self.s3 is not None
        return self.s3.url

    def _bucket_origins(self) -> tuple[str, ...]:
        """Where presigned URLs lead: S3's own host, or a host for each bucket."""
        url = urlsplit(self.s3_url)
        hosts = [] if self.external is None else [f"{name}.{url.netloc}" for name in self.bucket_names.values()]
        return tuple(f"{url.scheme}://{host}" for host in (url.netloc, *hosts))

    def _start_poller(self) -> None:
        versioned = {bucket.name: bucket.versioned for bucket in self.topology.BUCKETS}
        watches = [
            Watch(self.bucket_names[rule.bucket], rule.prefix, versioned[rule.bucket]) for rule in self.topology.RULES
        ]
        path = self.folder / "poller.sqlite"
        self._poller = Poller(self._external_client, watches, self.publish, path, self.region, plan.ACCOUNT)
        schedule = Schedule("s3-poller", period_seconds(self.scale), 0.0, self._poller.poll)
        schedule.start()
        self._schedules.append(schedule)

    def _start_scanner(self) -> None:
        """Where the scanning gate is on: a stub in GuardDuty's place, which sees S3's events as GuardDuty does."""
        prefixes = plan.scanned(self.topology, self._outer, self.bucket_names)
        if not prefixes:
            return
        assert self.hub is not None
        key = self.identity.keys[plan.OPERATOR]
        s3 = external.client(self.external or external.External(self.s3_url, self.region, key))
        self.scanner = StubScanner(s3, prefixes, self.hub.publish, self.region, plan.ACCOUNT)
        self.scanner.start()

    def _start_sources(self) -> None:
        self._start_scanner()
        if self.external is not None:
            self._start_poller()
        for function in self.topology.FUNCTIONS:
            pool = self.pools[function.name]
            source = function.source
            if source is not None:
                queue = self.queues[source.queue]
                made = QueueSource(
                    pool,
                    queue,
                    self.queue_service.arn(queue),
                    self.region,
                    source.batch_size,
                    source.batch_window_s / self.scale,
                    min(plan.QUEUE_CHILDREN_MAX, source.concurrency_max),
                    function.recursive_loop == "allow",
                )
                made.start()
                self._sources.append(made)
            if function.schedule_minutes is not None:
                schedule = Schedule(
                    function.name,
                    max(1.0, function.schedule_minutes * 60 / self.scale),
                    FIRST_SCHEDULE_S,
                    lambda name=function.name: self._run_schedule(name),  # type: ignore[misc]
                )
                schedule.start()
                self._schedules.append(schedule)

    def _ready(self) -> dict[str, Any]:
        assert self._gateway is not None
        key = self.identity.keys[plan.OPERATOR]
        return {
            "ready": True,
            "api": self._gateway.url,
            "page": self._gateway.url + "/",
            "s3": self.s3_url,
            "token": self.token(DEMO_TENANT, DEMO_USER, None),
            "s3_access_key": key.access_key,
            "s3_secret_key": key.secret_key,
            "region": self.region,
            "buckets": self.bucket_names,
            "pids": self.pids(),
            **({"s3_session_token": key.session_token} if key.session_token else {}),
            "data": str(self.folder),
        }

    def announce(self) -> None:
        """Lets ``heavylift`` on this machine find this stack."""
        assert self._gateway is not None
        discovery.write_entry(self._gateway.url)

    def _prewarm(self) -> None:
        for function in self.topology.FUNCTIONS:
            there = (self.options.functions / function.name / "handler.py").is_file()
            if function.routes and there and not self._stopped.is_set():
                self.pools[function.name].prewarm()

    # While it runs.

    @property
    def failed(self) -> bool:
        return any(worker.failed.is_set() for worker in self._workers)

    def pids(self) -> dict[str, int]:
        """The long-lived processes; children of functions are in ``state``."""
        guard = {"guard": self._guard.pid} if self._guard is not None else {}
        return {"up": os.getpid(), **{worker.name: worker.pid for worker in self._workers}, **guard}

    def token(self, tenant: str | None, user: str, scopes: list[str] | None) -> str:
        return self.authorizer.mint(tenant, user, self.topology.SCOPES if scopes is None else scopes)

    def publish(self, event: Mapping[str, Any]) -> None:
        """An event of S3's, on its way to the queues."""
        with self._event_gate:
            pass
        if self.hub is not None:
            self.hub.publish(event)
        if self.scanner is not None:
            self.scanner.see(event)

    def events_held(self) -> AbstractContextManager[object]:
        """S3's events wait outside while this is held."""
        return self._event_gate

    def invoke(
        self, function: str, event: object, wait_seconds: float = 3600.0, bytes_max: int = PAYLOAD_BYTES_MAX
    ) -> Outcome:
        """Runs a function now; KeyError when there is none of that name. ``too_large`` for an event over the limit."""
        pool, payload = self.pools[function], json.dumps(event).encode()
        if len(payload) > bytes_max:
            message = f"{len(payload)} byte payload is too large for the invocation (limit {bytes_max} bytes)"
            return Outcome("", False, error_payload("RequestTooLargeException", message), "too_large")
        return pool.invoke(payload, wait_seconds=wait_seconds)

    def _invoke_http(self, function: str, event: dict[str, Any], wait_seconds: float) -> Outcome:
        return self.invoke(function, event, wait_seconds)

    def _run_schedule(self, name: str) -> None:
        """An asynchronous invocation: what fails is tried twice more, as Lambda does."""
        event = scheduled_event(f"heavylift-{name}", self.region, plan.ACCOUNT)
        for delay in (*retry_delays(self.scale), None):
            outcome = self.invoke(name, event, bytes_max=ASYNC_PAYLOAD_BYTES_MAX)
            if outcome.ok or self._stopped.is_set():
                return
            logger.warning("scheduled %s: %s", name, outcome.payload.decode(errors="replace")[:500])
            if delay is None or self._stopped.wait(delay):
                return

    def end_caller(self, name: str) -> None:
        """A function that made the call at which it is to end; returns when it is dead."""
        if name in self.pools:
            ended = self.pools[name].kill_busy()
            logger.info("%s ended at a call: %d children", name, ended)

    def _keep_house(self) -> None:
        self._save_queues()
        for pool in self.pools.values():
            pool.reap()

    def _save_queues(self) -> None:
        changes = sum(queue.changes for queue in self.queues.values())
        if changes != self._queue_changes:
            plan.write_private(self.folder / "queues.json", {name: queue.dump() for name, queue in self.queues.items()})
            self._queue_changes = changes

    def set_faults(self, wanted: faults.Faults) -> None:
        """Replaces all faults. Raises FaultError for what another S3 cannot do, OSError when ours refuses its part."""
        assert self._gateway is not None
        assert self.hub is not None
        for_s3 = faults.traps(wanted, self.pools, "s3")
        if self.s3 is None and (wanted.s3 or for_s3):
            raise faults.FaultError("faults of S3 need the embedded S3, which --s3-endpoint replaced")
        if self.s3 is not None:
            calls = {"calls": faults.calls_document(for_s3)} if for_s3 else {}
            self.s3_admin("PUT", "faults", {**wanted.s3, **calls})
        for_tables = faults.calls_document(faults.traps(wanted, self.pools, "dynamodb"))
        self._ask("PUT", f"{self.tables.url}/_local/faults", {"calls": for_tables})
        self.queue_service.traps.set(faults.traps(wanted, self.pools, "sqs"))
        self.bus.traps.set(faults.traps(wanted, self.pools, "events"))
        self._gateway.set_fault(wanted.api)
        self.hub.set_fault(wanted.events)
        for name, pool in self.pools.items():
            pool.reseed(wanted.seed)
            pool.fault = wanted.functions.get(name) or wanted.functions.get("*") or Fault()

    def counters(self) -> dict[str, Any]:
        """Calls by caller and operation. Another S3 than the embedded one counts nothing for us."""
        parts = [self._ask("GET", f"{self.tables.url}/_local/counters", None), self._callers.counts()]
        if self.s3 is not None:
            parts.append(self.s3_admin("GET", "counters", None))
        return merge_counts(parts)

    def s3_admin(self, method: str, path: str, body: object) -> Any:
        """A call to the embedded S3's own knobs; raises OSError."""
        if self.s3 is None:
            raise OSError("there is no embedded S3")
        return self._ask(method, f"{self.s3.url}/_local/{path}", body)

    def _ask(self, method: str, url: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            url,
            data,
            {"x-local-token": self.identity.admin_token, "content-type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ADMIN_SECONDS_MAX) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise OSError(f"{error.code} {error.read(500).decode(errors='replace')}") from None
        return json.loads(content) if content else None

    def state(self) -> dict[str, Any]:
        """What the page and the demo show."""
        assert self._gateway is not None
        queues = {}
        for queue in self.topology.QUEUES:
            queues[queue.name] = {**self.queues[queue.name].depth()}
            queues[queue.name]["dlq"] = self.queues[f"{queue.name}-dlq"].depth()["visible"]
        return {
            "uptime_s": round(time.monotonic() - self.started_at, 1),
            "api": self._gateway.url,
            "s3": self.s3_url,
            "s3_external": self.external is not None,
            "endpoints": {name: getattr(self.endpoints, name) for name in ("dynamodb", "sqs", "events")},
            "region": self.region,
            "time_scale": self.scale,
            "events": self.options.events,
            "scanner": None if self.scanner is None else "stub",
            "table": self.topology.TABLE.name,
            "buckets": self.bucket_names,
            "pids": self.pids(),
            "functions": {name: pool.state() for name, pool in self.pools.items()},
            "queues": queues,
            "data": str(self.folder),
        }

    # Stop.

    def stop(self) -> None:
        """Ends everything and returns when no process and no temporary file is left. Safe after a failed start."""
        self._stopped.set()
        if self._gateway is not None:
            self._gateway.stop()
        for queue in self.queues.values():
            queue.close()
        for pool in self.pools.values():
            pool.stop()
        for part in (*self._sources, *self._schedules):
            part.stop()
        if hasattr(self, "_save_queues_schedule"):
            self._save_queues_schedule.stop()
        if self.scanner is not None:
            self.scanner.stop()
        for worker in self._workers:
            worker.stop()
        if self.hub is not None:
            self.hub.stop()
        if self._poller is not None:
            self._poller.close()
        if self.temporary and self._made_buckets:
            external.remove(self._external_client, self._made_buckets)
        for server in (*self._own_servers.values(), *((self._internal,) if self._internal is not None else ())):
            server.stop()
        if self.queues and not self.temporary:
            self._save_queues()
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
        if self._lock_file is not None:
            self._lock_file.close()


def _lock(file: Any, folder: Path) -> None:
    """One stack a folder. Raises StackError."""
    until = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > until:
                raise StackError(f"another stack uses {folder}") from None
            time.sleep(0.05)
