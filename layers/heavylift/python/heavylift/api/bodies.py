"""What request bodies must look like: pydantic models, and the problem they make of a body that breaks them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from heavylift.api.caller import whole_number
from heavylift.digests import digest_forms as digest_forms
from heavylift.errors import RequestError
from heavylift.ids import FILE_ID_PATTERN, ULID_PATTERN
from heavylift.limits import (
    ARCHIVE_FILES_MAX,
    BATCH_FILES_MAX,
    BATCH_NUMBER_MAX,
    FACILITY_LENGTH_MAX,
    FILES_PER_CALL_MAX,
    MANIFEST_ENTRIES_PER_CALL_MAX,
    METADATA_BYTES_MAX,
    NAME_LENGTH_MAX,
    PART_COUNT_MAX,
    RULES_BYTES_MAX,
    S3_PART_SIZE_MIN,
    TICKET_S_MAX,
    TICKET_S_MIN,
)
from heavylift.logical import logical_id as logical_id

M = TypeVar("M", bound=BaseModel)


def _sha256_base64(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if len(raw) != 32:
        raise ValueError(f"a SHA-256 has 32 bytes, not {len(raw)}")
    if base64.b64encode(raw).decode() != text:  # S3 compares the text of a signed header
        raise ValueError("not the one base64 of these bytes")
    return text


def _sha256_either(text: str) -> str:
    return text if _HEX.fullmatch(text) else _sha256_base64(text)


def _small_json(limit: int) -> Any:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        size = len(json.dumps(value))
        if size > limit:
            raise ValueError(f"{size} bytes as JSON, at most {limit} are kept")
        return value

    return AfterValidator(check)


def _whole(value: Any) -> Any:
    number = whole_number(value)
    return value if number is None else number


Size = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
BatchNumber = Annotated[int, Field(ge=0, le=BATCH_NUMBER_MAX), BeforeValidator(_whole)]
PartNumber = Annotated[int, Field(ge=1, le=PART_COUNT_MAX), BeforeValidator(_whole)]
PartSizeMax = Annotated[int, Field(ge=S3_PART_SIZE_MIN), BeforeValidator(_whole)]
BatchTotal = Annotated[int, Field(ge=1, le=BATCH_FILES_MAX), BeforeValidator(_whole)]
TicketSeconds = Annotated[int, Field(ge=TICKET_S_MIN, le=TICKET_S_MAX), BeforeValidator(_whole)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH_MAX)]
Text = Annotated[str, StringConstraints(max_length=2_000)]
_HEX = re.compile(r"[0-9a-fA-F]{64}")
# For the OpenAPI description; the validators say the same with better words.
_BASE64_PATTERN = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
DigestBase64 = Annotated[
    str, AfterValidator(_sha256_base64), WithJsonSchema({"type": "string", "pattern": f"^{_BASE64_PATTERN}$"})
]
EitherDigest = Annotated[
    str,
    AfterValidator(_sha256_either),
    WithJsonSchema({"type": "string", "pattern": f"^([0-9a-fA-F]{{64}}|{_BASE64_PATTERN})$"}),
]
DigestHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
# Of a file's own entry: a digest that is none is that file's problem, not the call's.
AnyDigest = Annotated[str, StringConstraints(max_length=64, min_length=43)]
FileId = Annotated[str, StringConstraints(pattern=rf"^{FILE_ID_PATTERN.pattern}$")]
Kind = Literal["image", "raw", "dicom", "table", "json", "text", "archive", "other"]
Metadata = Annotated[dict[str, Any], _small_json(METADATA_BYTES_MAX)]
_OF_UPPY = frozenset({"name", "type", "relativePath"})


class Body(BaseModel):
    # strict: "5" is no number, true no size; 5.0 is 5, as in JSON Schema. extra ignored: clients of a later version
    # are served.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class FileEntry(Body):
    client_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    name: Name
    size: Size
    type: Annotated[str, StringConstraints(max_length=200)] | None = None
    kind: Kind | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^v1:[0-9a-f]{64}$")] | None = None
    checksum: Literal["sha256", "none"] = "sha256"
    sha256: AnyDigest | None = None
    relative_path: Name | None = None
    rules: Annotated[dict[str, Any], _small_json(RULES_BYTES_MAX)] | None = None
    data_type: Text | None = None
    description: Text | None = None
    metadata: Metadata = Field(default_factory=dict)
    batch_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    n: BatchNumber | None = None


class TicketBody(Body):
    ttl: TicketSeconds = TICKET_S_MAX


class CompanionFile(Body):
    """What Uppy says of a file. A long name keeps its end, which has the extension."""

    filename: Annotated[str, StringConstraints(min_length=1), AfterValidator(lambda name: name[-NAME_LENGTH_MAX:])]
    type: Annotated[str, StringConstraints(max_length=200)] = ""
    metadata: Metadata | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """The page's own fields, without those that Uppy adds and those without a value."""
        given = self.metadata or {}
        return {key: value for key, value in given.items() if value is not None and key not in _OF_UPPY}

    @property
    def relative_path(self) -> str | None:
        """Where the file lies in the folder that was dropped; Uppy writes "null" into a query where there is none."""
        path = (self.metadata or {}).get("relativePath")
        return path if isinstance(path, str) and 0 < len(path) <= NAME_LENGTH_MAX and path != "null" else None


class CompanionPart(Body):
    PartNumber: int = Field(ge=1, le=PART_COUNT_MAX)
    ETag: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CompanionParts(Body):
    parts: list[CompanionPart] = Field(min_length=1, max_length=PART_COUNT_MAX)


class InitiateBody(Body):
    files: list[FileEntry] = Field(min_length=1, max_length=FILES_PER_CALL_MAX)
    max_part_size: PartSizeMax | None = None


class ClaimedPart(Body):
    part_number: PartNumber
    sha256: DigestBase64 | None = None


class CompleteBody(Body):
    parts: list[ClaimedPart] | None = Field(default=None, max_length=PART_COUNT_MAX)
    sha256: DigestHex | None = None


class RetryBody(Body):
    rules: Annotated[dict[str, Any], _small_json(RULES_BYTES_MAX)] | None = None
    force: bool = False


class BatchBody(Body):
    kind: Kind = "other"
    total: BatchTotal
    facility: Annotated[str, StringConstraints(min_length=1, max_length=FACILITY_LENGTH_MAX)] | None = None
    metadata: Metadata = Field(default_factory=dict)
    rules: Annotated[dict[str, Any], _small_json(RULES_BYTES_MAX)] | None = None
    mode: Literal["post", "put"] = "post"
    checksum: Literal["sha256", "none"] = "none"


class BatchEndBody(Body):
    """Nothing yet."""


class ArchiveBody(Body):
    """Exactly one of the first four; ``archives.requests`` says so in words."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (
                    ("file_ids", "array"), ("batch_id", "string"), ("logical_id", "string"), ("study_uid", "string")
                )
            ]
        }
    )  # fmt: skip
    file_ids: Annotated[list[FileId], Field(min_length=1, max_length=ARCHIVE_FILES_MAX)] | None = None
    batch_id: Annotated[str, StringConstraints(pattern=rf"^{ULID_PATTERN.pattern}$")] | None = None
    logical_id: Name | None = None
    study_uid: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)] | None = None
    name: Name | None = None
    package: Literal["plain", "bagit"] | None = None
    on_missing: Literal["fail", "skip"] | None = None


class ManifestEntry(Body):
    n: BatchNumber
    name: Name
    size: Size
    sha256: EitherDigest | None = None
    relative_path: Name | None = None


class ManifestBody(Body):
    entries: list[ManifestEntry] = Field(min_length=1, max_length=MANIFEST_ENTRIES_PER_CALL_MAX)


def parse(model: type[M], value: Any) -> M:
    """``value`` as ``model``. RequestError ``invalid_body`` with one entry a defect: where, what."""
    # Labels are UTF-8 in the table; half a surrogate pair, which JSON can write, has no UTF-8 and becomes U+FFFD.
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return model.model_validate_json(text)
    except ValidationError as error:
        defects = [
            {"at": "/".join(str(piece) for piece in defect["loc"]) or "(body)", "message": defect["msg"]}
            for defect in error.errors(include_url=False, include_input=False, include_context=False)[:20]
        ]
        first = defects[0]
        raise RequestError(
            "invalid_body",
            f"The body breaks its schema in {error.error_count()} place(s); at {first['at']}: {first['message']}.",
            errors=defects,
        ) from None
    except (ValueError, RecursionError):
        # A number such as 1e400, which is infinite to every reader, or lists within lists within lists.
        raise RequestError("invalid_body", "The body holds a number or a nesting that cannot be kept.") from None
