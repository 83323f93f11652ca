"""What an answer of S3 to a PUT or GET means, and what to do next. No I/O here.

Decided by S3's ``<Code>``, not by the status alone: an expired token is a 400, and so is a slow client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

# A signature that was right a moment ago: the URL or the signer's own token ran out, or clocks moved.
SIGN_AGAIN_CODES = frozenset({"ExpiredToken", "AccessDenied", "RequestTimeTooSkewed"})
# The world's fault; the same bytes may be sent again.
BACK_OFF_CODES = frozenset(
    {
        "RequestTimeout",  # a 400: S3 waited too long for the body
        "IncompleteBody",
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "ConditionalRequestConflict",  # 409: somebody else was writing the same key
        "OperationAborted",
    }
)
# Only the API knows what became of the session: an earlier try may have arrived, or somebody cancelled.
ASK_CODES = frozenset({"NoSuchUpload", "PreconditionFailed"})
SIGN_AGAIN_MAX = 8  # in a row; a real refusal also says AccessDenied
SIGNATURE_MISMATCH_MAX = 1  # once can be a key that rotated; twice is a wrong request
BAD_DIGEST_MAX = 3
NOT_WORTH_RETRYING = frozenset({501, 505})


SLOW_DOWN_CODES = frozenset({"SlowDown", "ServiceUnavailable"})


class Act(StrEnum):
    """What to do after an answer."""

    STORED = "stored"
    SIGN_AGAIN = "sign again"
    BACK_OFF = "back off"
    HASH_AGAIN = "hash again"
    ASK = "ask"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of S3; ``status`` None means that none came (the network's fault)."""

    status: int | None
    code: str = ""
    message: str = ""
    retry_after: str | None = None

    @property
    def well(self) -> bool:
        """A 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Tries:
    """What was already tried for one part."""

    sign_again: int = 0
    signature_mismatch: int = 0
    bad_digest: int = 0
    back_off: int = 0

    def after(self, act: Act, answer: Answer) -> Tries:
        """The count once ``act`` has been decided for ``answer``."""
        if act is Act.SIGN_AGAIN and answer.code == "SignatureDoesNotMatch":
            return replace(self, signature_mismatch=self.signature_mismatch + 1)
        if act is Act.SIGN_AGAIN:
            return replace(self, sign_again=self.sign_again + 1)
        if act is Act.HASH_AGAIN:
            return replace(self, bad_digest=self.bad_digest + 1)
        if act is Act.BACK_OFF:
            return replace(self, back_off=self.back_off + 1)
        return self

    @property
    def total(self) -> int:
        """All tries that failed, the exponent of the back-off."""
        return self.sign_again + self.signature_mismatch + self.bad_digest + self.back_off


def judge(answer: Answer, tries: Tries, failing_s: float, patience_s: float) -> Act:
    """What to do after ``answer``.

    ``failing_s`` is how long this part has been failing, ``patience_s`` how long that may go on: what the
    world gets wrong is bounded by time, what looks like our own mistake by count.
    """
    status, code = answer.status, answer.code
    if answer.well:
        return Act.STORED
    if code in ASK_CODES or (status == 412 and not code):
        return Act.ASK
    if code == "SignatureDoesNotMatch":
        return Act.SIGN_AGAIN if tries.signature_mismatch < SIGNATURE_MISMATCH_MAX else Act.FAIL
    if code in SIGN_AGAIN_CODES or (status == 403 and not code):
        return Act.SIGN_AGAIN if tries.sign_again < SIGN_AGAIN_MAX else Act.FAIL
    if code == "BadDigest":
        return Act.HASH_AGAIN if tries.bad_digest < BAD_DIGEST_MAX else Act.FAIL
    if code in BACK_OFF_CODES or worlds_fault(status):
        return Act.BACK_OFF if failing_s < patience_s else Act.FAIL
    return Act.FAIL


def worlds_fault(status: int | None) -> bool:
    """Whether a status alone says that the same request may succeed later."""
    return status is None or status in (408, 429) or (status >= 500 and status not in NOT_WORTH_RETRYING)


def asks_for_less(answer: Answer) -> bool:
    """Whether the store said that there are too many requests."""
    return answer.code in SLOW_DOWN_CODES or answer.status in (429, 503)


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Code and message of an S3 answer. The body may be anything; only two short elements are looked at."""
    if 200 <= status < 300:
        return Answer(status)
    text = body[:65536].decode("utf-8", "replace")
    return Answer(status, _element(text, "Code"), _element(text, "Message"), headers.get("retry-after"))


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]{{0,500}})</{name}>", text)
    if not found:
        return ""
    plain = found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    # Some stores echo the request's URL in a message: a signature must not reach a log.
    return re.sub(r"https?://\S+", "<url>", plain).strip()


def in_words(answer: Answer) -> str:
    """An answer as a sentence."""
    if answer.status is None:
        return answer.message or "the store did not answer"
    said = f"{answer.status} {answer.code}".strip()
    return f"the store answered {said}" + (f": {answer.message}" if answer.message else "")
