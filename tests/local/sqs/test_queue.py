"""A queue keeps what it was given until it is deleted, shows it to one receiver at a time, and gives up in the end."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_local.sqs.queue import Message, Queue, ReceiptInvalid


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(visibility_s: float = 30, receive_count_max: int | None = None) -> tuple[Queue, Queue, Clock]:
    clock = Clock()
    dead = Queue("q-dlq", 30, 1e6, clock=clock)
    return Queue("q", visibility_s, 1e6, dead, receive_count_max, clock=clock), dead, clock


def test_a_received_message_is_hidden_until_its_visibility_ends() -> None:
    """Two receivers never hold the same message at the same time; afterwards it comes back, counted."""
    queue, _, clock = make(visibility_s=30)
    queue.send(Message("a"))

    first = queue.receive()
    clock.now += 29.9
    between = queue.receive()
    clock.now += 0.2
    second = queue.receive()

    assert [m.body for m in first] == ["a"]
    assert between == []
    assert [(m.body, m.receive_count) for m in second] == [("a", 2)]
    assert first[0].receipt != second[0].receipt


def test_a_deleted_message_never_comes_back() -> None:
    """Deletion with the latest receipt is final, also after the visibility."""
    queue, _, clock = make()
    queue.send(Message("a"))
    [message] = queue.receive()

    queue.delete(message.receipt or "")
    clock.now += 1000

    assert queue.receive() == []
    assert queue.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}


def test_a_stale_receipt_deletes_nothing() -> None:
    """Who lost the message to a later receiver cannot delete it under that receiver's hands."""
    queue, _, clock = make(visibility_s=1)
    queue.send(Message("a"))
    [old] = queue.receive()
    clock.now += 2
    [new] = queue.receive()

    queue.delete(old.receipt or "")
    clock.now += 2

    assert [m.id for m in queue.receive()] == [new.id]


def test_changed_visibility_replaces_the_old_one() -> None:
    """Shorter or longer, the last change counts; zero shows the message at once."""
    queue, _, clock = make(visibility_s=30)
    queue.send(Message("a"))
    [message] = queue.receive()

    queue.change_visibility(message.receipt or "", 100)
    clock.now += 50
    hidden = queue.receive()
    queue.change_visibility(message.receipt or "", 0)
    shown = queue.receive()

    assert hidden == []
    assert [m.id for m in shown] == [message.id]


def test_visibility_of_a_message_not_in_flight_cannot_be_changed() -> None:
    """A receipt dies with the visibility it came with."""
    queue, _, clock = make(visibility_s=1)
    queue.send(Message("a"))
    [message] = queue.receive()
    clock.now += 2
    queue.receive()

    with pytest.raises(ReceiptInvalid):
        queue.change_visibility(message.receipt or "", 5)


def test_after_the_last_receive_a_message_moves_to_the_dead_letters() -> None:
    """maxReceiveCount receives are made; the next attempt moves it."""
    queue, dead, clock = make(visibility_s=1, receive_count_max=3)
    queue.send(Message("a"))

    counts = []
    for _ in range(5):
        counts += [m.receive_count for m in queue.receive()]
        clock.now += 2

    assert counts == [1, 2, 3]
    assert queue.depth()["visible"] == 0
    assert [m.body for m in dead.receive()] == ["a"]


def test_a_delayed_message_waits() -> None:
    """DelaySeconds hides a message that nobody received yet."""
    queue, _, clock = make()
    queue.send(Message("a"), delay_s=10)

    assert queue.depth() == {"visible": 0, "in_flight": 0, "delayed": 1}
    assert queue.receive() == []
    clock.now += 11
    assert len(queue.receive()) == 1


def test_a_long_poll_wakes_up_for_a_new_message() -> None:
    """A waiting receiver gets the message when it is sent, not when its wait ends."""
    queue = Queue("q", 30, 1e6)
    got: list[Message] = []
    thread = threading.Thread(target=lambda: got.extend(queue.receive(wait_s=20)))
    thread.start()

    queue.send(Message("late"))
    thread.join(10)

    assert [m.body for m in got] == ["late"]


def test_a_long_poll_wakes_up_for_a_message_that_comes_back() -> None:
    """Visibility ends are alarms for waiting receivers too."""
    queue = Queue("q", 0.05, 1e6)
    queue.send(Message("a"))
    queue.receive()

    assert [m.receive_count for m in queue.receive(wait_s=10)] == [2]


def test_closing_wakes_every_receiver() -> None:
    """No thread is left waiting when the stack stops."""
    queue = Queue("q", 30, 1e6)
    threads = [threading.Thread(target=queue.receive, kwargs={"wait_s": 60}) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)

    queue.close()
    for thread in threads:
        thread.join(10)

    assert not any(thread.is_alive() for thread in threads)


def test_dump_and_load_keep_every_message_and_its_count() -> None:
    """What was in flight is visible again: its receiver is gone."""
    queue, _, _ = make(receive_count_max=5)
    queue.send(Message("held", {"k": {"DataType": "String", "StringValue": "v"}}, "Root=1-x", "me"))
    queue.receive()
    queue.send(Message("later"), delay_s=50)
    other, _, clock = make(receive_count_max=5)

    other.load(queue.dump())

    [again] = other.receive(10)
    assert (again.body, again.receive_count, again.trace_header, again.sender) == ("held", 2, "Root=1-x", "me")
    other.delete(again.receipt or "")
    clock.now += 51
    assert [m.body for m in other.receive(10)] == ["later"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 20)),
            st.tuples(st.just("receive"), st.integers(1, 10)),
            st.tuples(st.just("delete"), st.integers(0, 5)),
            st.tuples(st.just("pass"), st.integers(0, 40)),
        ),
        max_size=60,
    )
)
def test_no_message_is_lost_and_none_is_held_twice(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order: sent = deleted + dead + what is still there, and holders are exclusive."""
    queue, dead, clock = make(visibility_s=30, receive_count_max=3)
    sent = deleted = 0
    held: dict[str, tuple[float, str]] = {}
    for action, number in steps:
        if action == "send":
            queue.send(Message(str(sent)), delay_s=number)
            sent += 1
        elif action == "receive":
            for message in queue.receive(number):
                assert held.get(message.id, (0.0, ""))[0] <= clock.now, "received while somebody held it"
                held[message.id] = (clock.now + 30, message.receipt or "")
        elif action == "delete" and held:
            message_id = sorted(held)[number % len(held)]
            before = sum(queue.depth().values())
            queue.delete(held.pop(message_id)[1])
            deleted += before - sum(queue.depth().values())
        else:
            clock.now += number

    assert sent == deleted + sum(queue.depth().values()) + sum(dead.depth().values())


def test_receiving_costs_the_same_with_a_long_backlog() -> None:
    """A receive looks at no more messages than it returns: 20,000 waiting ones are not walked through."""
    queue, _, _ = make()
    touched = 0

    class Counting(Message):
        def __getattribute__(self, name: str) -> object:
            nonlocal touched
            if name == "visible_at":
                touched += 1
            return super().__getattribute__(name)

    for number in range(20_000):
        queue.send(Counting(str(number)))
    touched = 0

    assert len(queue.receive(10)) == 10
    assert touched <= 100
