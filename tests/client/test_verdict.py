from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_client.verdict import Act, Answer, Tries, in_words, judge, read_answer


@pytest.mark.parametrize(
    ("status", "code", "act"),
    [
        (200, "", Act.STORED),
        (206, "", Act.STORED),
        (400, "ExpiredToken", Act.SIGN_AGAIN),
        (403, "AccessDenied", Act.SIGN_AGAIN),
        (403, "RequestTimeTooSkewed", Act.SIGN_AGAIN),
        (403, "SignatureDoesNotMatch", Act.SIGN_AGAIN),
        (403, "", Act.SIGN_AGAIN),
        (400, "RequestTimeout", Act.BACK_OFF),
        (400, "IncompleteBody", Act.BACK_OFF),
        (400, "BadDigest", Act.HASH_AGAIN),
        (503, "SlowDown", Act.BACK_OFF),
        (500, "InternalError", Act.BACK_OFF),
        (200 + 302, "", Act.BACK_OFF),
        (408, "", Act.BACK_OFF),
        (429, "", Act.BACK_OFF),
        (None, "", Act.BACK_OFF),
        (404, "NoSuchUpload", Act.ASK),
        (412, "PreconditionFailed", Act.ASK),
        (409, "ConditionalRequestConflict", Act.BACK_OFF),
        (400, "EntityTooLarge", Act.FAIL),
        (400, "InvalidRequest", Act.FAIL),
        (404, "NoSuchBucket", Act.FAIL),
        (501, "NotImplemented", Act.FAIL),
        (301, "PermanentRedirect", Act.FAIL),
    ],
)
def test_the_table(status: int | None, code: str, act: Act) -> None:
    """What each answer of S3 means the first time."""
    assert act == judge(Answer(status, code), Tries(), 0.0, 600.0)


def fails_after(answer: Answer, step_s: float = 0.0) -> int:
    """How many times an answer is met with another try before the loop ends."""
    tries, failing_s = Tries(), 0.0
    for count in range(10_000):
        act = judge(answer, tries, failing_s, 600.0)
        if act is Act.FAIL:
            return count
        tries, failing_s = tries.after(act, answer), failing_s + step_s
    raise AssertionError("it never ends")


def test_every_loop_ends() -> None:
    """A wrong signature is tried once more, other bytes three times, a refusal eight times, the world for 600 s."""
    assert fails_after(Answer(403, "SignatureDoesNotMatch")) == 1
    assert fails_after(Answer(400, "BadDigest")) == 3
    assert fails_after(Answer(403, "AccessDenied")) == 8
    assert fails_after(Answer(503, "SlowDown"), step_s=20.0) == 30
    assert fails_after(Answer(None), step_s=1.0) == 600


def test_an_expired_token_is_not_a_wrong_signature() -> None:
    """The two are counted apart: a key that rotates and a token that expires may meet in one part."""
    tries = Tries().after(Act.SIGN_AGAIN, Answer(400, "ExpiredToken"))

    assert judge(Answer(403, "SignatureDoesNotMatch"), tries, 0, 600) is Act.SIGN_AGAIN
    assert tries.total == 1


def test_code_and_message_are_read() -> None:
    """S3's XML, entities resolved; a URL in a message is cut out, for it may be signed."""
    said = b"a &lt;b&gt; at https://x.test/k?X-Amz-Signature=abc now"
    body = b"<Error><Code>SlowDown</Code><Message>" + said + b"</Message></Error>"
    answer = read_answer(503, {"retry-after": "3"}, body)

    assert answer == Answer(503, "SlowDown", "a <b> at <url> now", "3")
    assert in_words(answer) == "the store answered 503 SlowDown: a <b> at <url> now"


@given(st.integers(300, 599), st.binary(max_size=300))
def test_any_body_is_an_answer(status: int, body: bytes) -> None:
    """Garbage has no code, and never raises."""
    answer = read_answer(status, {}, body)

    assert answer.status == status
    assert not answer.well
    assert judge(answer, Tries(), 0, 600) in Act
