"""What differs between a function here and one on Lambda, as data: the documentation and the tests read this table.

Facts about Lambda: AWS Lambda developer guide, "Lambda quotas", "Lambda execution environment lifecycle",
"Using Lambda environment variables", "How Lambda handles errors and retries".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trait:
    """One property of the runtime, there and here. ``test`` shows it; None where nothing can."""

    name: str
    on_lambda: str
    here: str
    test: str | None = None


SAME = "the same"

REALISM: tuple[Trait, ...] = (
    Trait("runtime client", "awslambdaric", "the same package, one process a child", "test_pool.py"),
    Trait(
        "interpreter",
        "the deployed Python version",
        "the Python that runs the stack; -I -S -B keep the environment's other packages out",
        "test_pool.py",
    ),
    Trait("processor", "arm64, a share by memory", "this machine's, all of it: time is no measure of Lambda's time"),
    Trait(
        "memory",
        "the sandbox is killed at its limit",
        "a watchdog kills the family over the limit (every 15 ms, pages that no file backs); RLIMIT_DATA at twice the "
        "limit, at least 512 MB above it, is the backstop",
        "test_pool.py::test_too_much_memory_kills_the_child",
    ),
    Trait("time-out", SAME, SAME, "test_pool.py::test_a_timeout_kills_the_child_and_its_decoder"),
    Trait(
        "init phase",
        "10 s, then once more within the first invocation's time-out",
        SAME,
        "test_realism.py::test_an_init_over_its_limit_is_tried_again_in_the_invocations_time",
    ),
    Trait(
        "frozen between invocations",
        "the whole sandbox stands still",
        "SIGSTOP when the runtime asks for the next event, SIGCONT with the event; /proc stays readable; "
        "programs that it started in sessions of their own go on",
        "test_realism.py::test_an_idle_child_stands_still",
    ),
    Trait(
        "/dev/shm",
        "absent, so multiprocessing's locks and shared memory fail",
        "present; no module of ours may use it",
        "test_realism.py::test_nothing_needs_shared_memory",
    ),
    Trait(
        "file system",
        "read-only but for /tmp",
        "Python's own opens and changes outside TMPDIR fail with EROFS; native code and started programs are not "
        "stopped; /tmp itself is this machine's and refused, TMPDIR stands for it",
        "test_realism.py::test_the_file_system_is_read_only_but_for_tmp",
    ),
    Trait(
        "ephemeral storage",
        "writes over the limit fail with ENOSPC; kept between invocations of a sandbox",
        "over the limit the child is killed; kept between invocations of a child, removed with it",
        "test_realism.py::test_too_much_temporary_data_kills_the_child",
    ),
    Trait(
        "environment variables",
        "as documented",
        "the same but for AWS_LAMBDA_MAX_CONCURRENCY-like ones of other modes, LD_LIBRARY_PATH (it would hide this "
        "machine's libraries) and AWS_ACCESS_KEY (an old alias); more than there: endpoints, TMPDIR, the time scale",
        "test_realism.py::test_the_environment_is_the_documented_one",
    ),
    Trait("working folder", "/var/task", "the function's folder, named by LAMBDA_TASK_ROOT", "test_pool.py"),
    Trait(
        "response",
        "6 MB, then Function.ResponseSizeTooLarge",
        SAME,
        "test_pool.py::test_an_answer_over_6_mb_is_refused",
    ),
    Trait(
        "event",
        "6 MB, 1 MB when asynchronous; EventBridge entries 256 KB",
        "6 MB through the gateway and by hand, 1 MB for schedules; S3's events are always far smaller",
        "test_realism.py::test_events_have_a_largest_size",
    ),
    Trait(
        "asynchronous failure",
        "two more tries after 1 and 2 minutes",
        "the same on the scaled clock",
        "test_realism.py::test_a_failed_schedule_is_tried_twice_more",
    ),
    Trait(
        "recursion",
        "stopped at the 17th hop unless allowed",
        SAME,
        "test_stack.py::test_a_loop_is_stopped_after_sixteen_invocations",
    ),
    Trait(
        "concurrency",
        "a sandbox for each concurrent event",
        "at most 4 children a function for requests and 2 for a queue; more events wait",
        "test_pool.py::test_children_run_side_by_side_up_to_the_cap",
    ),
    Trait("log lines", "cut at 1 MB by CloudWatch Logs", "whole, in one file a function, in no order with others"),
    Trait("role", "temporary credentials, renewed", "credentials of the stack's life, roles checked by each service"),
    Trait("network", "as configured", "loopback and whatever this machine reaches"),
)
