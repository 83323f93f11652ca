"""Every fixed limit and default, each with its reason. Settings that a deployer may change are in ``settings``."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

# --- S3 (Amazon S3 user guide, "Multipart upload limits") ---
PART_COUNT_MAX = 10_000  # part numbers 1..10 000
S3_PART_SIZE_MIN = 5 * MIB  # all parts but the last
S3_PART_SIZE_MAX = 5 * GIB
OBJECT_SIZE_MAX = PART_COUNT_MAX * S3_PART_SIZE_MAX  # 48.8 TiB
POST_SIZE_MAX = 5 * GIB  # one form, as one PUT
COPY_OBJECT_MAX = 64 * MIB  # one CopyObject up to here; above, parallel part copies are faster than one stream

# --- our part plan ---
SINGLE_PUT_MAX = 16 * MIB  # below this a second round trip costs more than a retry of the whole
PART_COUNT_PLANNED_MAX = 9_000  # 10 % head-room, so that a plan never ends on the last allowed number

# --- the API ---
FILES_PER_CALL_MAX = 200  # initiate: 200 CreateMultipartUpload calls fit into its 29 s
PARTS_PER_CALL_MAX = 1_000  # sign: 1 000 URLs of ~2.2 kB stay below Lambda's 6 MB answer
LIST_LIMIT_MAX = 100  # BatchGetItem takes 100 keys
NAME_LENGTH_MAX = 5_000  # characters of a label; more would crowd DynamoDB's 400 KB item
METADATA_BYTES_MAX = 16 * KIB  # as JSON; the item also holds 32 audit events
RULES_BYTES_MAX = 64 * KIB
TICKET_S_MAX = 12 * 3_600  # a working day: a page left open overnight asks for a new one
TICKET_S_MIN = 60  # shorter ones would die between two clocks
IDEMPOTENCY_KEY_LENGTH_MAX = 255
IDEMPOTENCY_DAYS = 1
IDEMPOTENCY_LEASE_S = 40  # the API's 29 s timeout and a margin: then whoever held the key is dead
IDEMPOTENCY_LEASE_MIN_S = 5  # on a scaled clock too, a call takes its time
IDEMPOTENCY_AGAIN_S = 2  # most calls take less; who waits for a killed one asks twenty times
# A tenant's files lie in one partition of the list index, which takes 1 000 writes a second: half of them for
# beginnings, half for what becomes of the files.
RATE_LIMIT_FILES_PER_MINUTE = 30_000
# 100 calls of about a second each keep 100 sandboxes busy: a tenth of what an account has by default.
RATE_LIMIT_CALLS_PER_MINUTE = 6_000

# --- batches ---
BATCH_FILES_MAX = 100_000  # their marks are a thousand items of 1 KB, which two pages of a query read
BATCH_NUMBER_MAX = 999_999  # six digits in a member's id; numbers above the manifest's are for what bundles hold
MANIFEST_ENTRIES_PER_CALL_MAX = 5_000  # with paths of a thousand letters they fit into Lambda's 6 MB; 50 items
MANIFEST_PAGES_MAX = 1_000  # the batch's item names each page: 40 KB of them
URLS_PER_CALL_MAX = 500  # 500 URLs of ~2.2 kB, and at most 500 items of the manifest to read
FACILITY_LENGTH_MAX = 200  # characters; a name or a code
BATCH_LIST_MAX = 100  # errors, warnings and the files inside an answer: a screenful, and one BatchGetItem
BATCH_WAIT_MAX_S = 25  # below the gateway's 30 s with room for a slow answer
BATCH_LOOK_S = 900  # the sweeper looks at a batch under way about as often as it runs

# --- archives ---
ARCHIVE_FILES_MAX = 100_000  # as a batch; their list, table and METS are made within one call's memory and disk
ARCHIVE_LOOKED_AT_MAX = 1_000  # ids that POST looks at itself: ten BatchGetItem calls; the job looks at all of them
ARCHIVE_REUSE_S = 86_400  # an archive that is there is given out again if a day of its life is left
ARCHIVE_LEFT_OUT_MAX = 100  # members that vanish while it is built; more and the job fails
DIGEST_READ_MAX = GIB  # a bag's file without a SHA-256 is read once: ~20 s, a slice of work

# --- life of a file ---
AUDIT_EVENTS_KEPT = 32  # the newest stay in the item
AUDIT_EVENTS_MOVED = 16  # older ones move to an object by so many: one object for many writes
ANNOUNCE_AGAIN_S = 60  # what a function owes the bus it sends within its timeout; later the sweeper does
PURGE_AGAIN_S = 3_600  # by then every signed URL and every worker's lease is over: nothing can appear any more
DUE_SHARDS = 4  # partitions of the sweeper's index: one partition takes 1 000 writes a second
CHANGE_TRIES = 8  # of a write under a version: two dozen concurrent writers of one record settle well within this
TOMBSTONE_DAYS = 90  # a cancelled, expired or deleted file's record and audit trail
ATTEMPTS_MAX = 5  # = receive count of the queues: then the dead-letter queue has the message
ASSEMBLING_LEASE_S = 40  # complete's 29 s timeout and a margin
COMPLETE_WAIT_S = 20  # then 202: below the gateway's 30 s with room for a slow answer
LEASE_MARGIN_S = 30  # added to a function's timeout: a lease must outlive a killed sandbox
SCAN_WAIT_S = 6 * 3_600  # GuardDuty's verdicts take seconds to minutes; after a morning somebody has to look
SCAN_LOOK_S = 1_800  # how often a file that waits for its scan is looked at: an event may have been lost
THREATS_KEPT = 10  # names of threats in the record; GuardDuty names each file inside an archive
THREAT_NAME_LENGTH = 200
RETRY_BASE_S = 15
RETRY_MAX_S = 900
HOP_LIMIT = 1_000  # continuations of one attempt; 80 GB at 90 MB/s needs about four

SWEEP_INTERVAL_S = 900  # infra.topology's schedule; a test holds the two together

# A message sleeps this long while its function may be at work: 6 x the function's timeout (infra.topology; a test
# holds the two together). The sweeper waits as long before it sends a stage again.
QUEUE_VISIBILITY_S = {"validate": 1_800, "dicom_ingest": 720, "thumbnail": 5_400, "archive": 1_800}

# A file that waits for its stage is looked at after this: an event takes a second, a file behind others some minutes,
# and it is over by the sweeper's next run but one, a quarter of an hour each.
FIRST_LOOK_S = 600

# --- reading ---
SNIFF_HEAD_BYTES = 64 * KIB
FETCH_PARALLEL = 4  # S3 gives 40-90 MB/s a connection; four fill a 1.8 GB Lambda's network

EMPTY_SHA256_HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What may be stored: detected ``formats`` of one media type, their kind and size limit in bytes."""

    media_type: str
    kind: str
    formats: tuple[str, ...]
    size_max: int
    extensions: tuple[str, ...] = ()


_RAW_SIZE_MAX = 4 * GIB
_PICTURE_SIZE_MAX = 2 * GIB
_TABLE_SIZE_MAX = 100 * GIB

TYPES: tuple[TypeRule, ...] = (
    TypeRule("image/x-adobe-dng", "raw", ("DNG",), 80 * GIB, ("dng",)),
    TypeRule("image/tiff", "image", ("TIFF", "BigTIFF", "SVS", "OME-TIFF"), 50 * GIB, ("tif", "tiff", "btf", "svs")),
    TypeRule("image/x-nikon-nef", "raw", ("NEF",), _RAW_SIZE_MAX, ("nef",)),
    TypeRule("image/x-canon-cr2", "raw", ("CR2",), _RAW_SIZE_MAX, ("cr2",)),
    TypeRule("image/x-canon-cr3", "raw", ("CR3",), _RAW_SIZE_MAX, ("cr3",)),
    TypeRule("image/x-canon-crw", "raw", ("CRW",), _RAW_SIZE_MAX, ("crw",)),
    TypeRule("image/x-sony-arw", "raw", ("ARW",), _RAW_SIZE_MAX, ("arw",)),
    TypeRule("image/x-olympus-orf", "raw", ("ORF",), _RAW_SIZE_MAX, ("orf",)),
    TypeRule("image/x-panasonic-rw2", "raw", ("RW2",), _RAW_SIZE_MAX, ("rw2",)),
    TypeRule("image/x-pentax-pef", "raw", ("PEF",), _RAW_SIZE_MAX, ("pef",)),
    TypeRule("image/x-fuji-raf", "raw", ("RAF",), _RAW_SIZE_MAX, ("raf",)),
    TypeRule("image/x-samsung-srw", "raw", ("SRW",), _RAW_SIZE_MAX, ("srw",)),
    TypeRule("image/x-hasselblad-3fr", "raw", ("3FR",), _RAW_SIZE_MAX, ("3fr",)),
    TypeRule("image/x-phaseone-iiq", "raw", ("IIQ",), _RAW_SIZE_MAX, ("iiq",)),
    TypeRule("image/x-sigma-x3f", "raw", ("X3F",), _RAW_SIZE_MAX, ("x3f",)),
    TypeRule("image/x-minolta-mrw", "raw", ("MRW",), _RAW_SIZE_MAX, ("mrw",)),
    # Sensor data of a maker that the sniffer does not name; no extension, for ".raw" announces anything.
    TypeRule("image/x-dcraw", "raw", ("RAW",), _RAW_SIZE_MAX),
    TypeRule("image/jpeg", "image", ("JPEG",), _PICTURE_SIZE_MAX, ("jpg", "jpeg", "jpe")),
    TypeRule("image/png", "image", ("PNG",), _PICTURE_SIZE_MAX, ("png",)),
    TypeRule("image/webp", "image", ("WebP",), _PICTURE_SIZE_MAX, ("webp",)),
    TypeRule("image/heic", "image", ("HEIC", "HEIF"), _PICTURE_SIZE_MAX, ("heic", "heif")),
    TypeRule("image/avif", "image", ("AVIF",), _PICTURE_SIZE_MAX, ("avif",)),
    TypeRule("image/gif", "image", ("GIF",), _PICTURE_SIZE_MAX, ("gif",)),
    TypeRule("image/bmp", "image", ("BMP",), _PICTURE_SIZE_MAX, ("bmp",)),
    TypeRule("image/jp2", "image", ("JP2", "J2K"), _PICTURE_SIZE_MAX, ("jp2", "j2k", "jpx")),
    TypeRule("image/jxl", "image", ("JXL",), _PICTURE_SIZE_MAX, ("jxl",)),
    TypeRule("image/vnd.adobe.photoshop", "image", ("PSD", "PSB"), _PICTURE_SIZE_MAX, ("psd", "psb")),
    TypeRule("application/dicom", "dicom", ("DICOM",), 4 * GIB, ("dcm",)),
    TypeRule("text/csv", "table", ("CSV",), _TABLE_SIZE_MAX, ("csv",)),
    TypeRule("text/tab-separated-values", "table", ("TSV",), _TABLE_SIZE_MAX, ("tsv",)),
    TypeRule("application/x-ndjson", "json", ("JSONL",), _TABLE_SIZE_MAX, ("jsonl", "ndjson")),
    TypeRule("application/json", "json", ("JSON",), _TABLE_SIZE_MAX, ("json",)),
    TypeRule("text/plain", "text", ("Text",), _TABLE_SIZE_MAX, ("txt", "log", "md")),
    TypeRule("application/gzip", "archive", ("gzip",), _TABLE_SIZE_MAX, ("gz",)),
    TypeRule("application/zstd", "archive", ("zstd",), _TABLE_SIZE_MAX, ("zst",)),
    TypeRule("application/zip", "archive", ("ZIP",), 5 * TIB, ("zip",)),
    TypeRule("application/x-tar", "archive", ("tar",), 5 * TIB, ("tar",)),
    TypeRule("application/pdf", "other", ("PDF",), _PICTURE_SIZE_MAX, ("pdf",)),
)
KINDS = ("image", "raw", "dicom", "table", "json", "text", "archive", "other")

_BY_MEDIA_TYPE = {rule.media_type: rule for rule in TYPES}
_BY_FORMAT = {name: rule for rule in TYPES for name in rule.formats}
_BY_EXTENSION = {extension: rule for rule in TYPES for extension in rule.extensions}
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/dng": "image/x-adobe-dng",
    "image/heif": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "image/jpx": "image/jp2",
    "application/jsonl": "application/x-ndjson",
    "application/x-jsonlines": "application/x-ndjson",
    "application/x-zip-compressed": "application/zip",
    "application/x-gzip": "application/gzip",
}
# Content that a browser or a shell would run is never stored for download.
REFUSED_MEDIA_TYPES = frozenset(
    {
        "text/html",
        "application/xhtml+xml",
        "text/javascript",
        "application/javascript",
        "application/x-msdownload",
        "application/x-dosexec",
        "application/vnd.microsoft.portable-executable",
        "application/x-executable",
        "application/x-elf",
        "application/x-mach-binary",
        "application/x-sh",
        "text/x-shellscript",
    }
)


def rule_for_media_type(media_type: str) -> TypeRule | None:
    """The rule of a declared media type (parameters and aliases allowed); None = any other type."""
    plain = media_type.split(";", 1)[0].strip().lower()
    return _BY_MEDIA_TYPE.get(_ALIASES.get(plain, plain))


def rule_for_format(name: str) -> TypeRule | None:
    """The rule of a detected format; None = kept as kind ``other``."""
    return _BY_FORMAT.get(name)


def rule_for_extension(file_name: str) -> TypeRule | None:
    """The rule that a file name's extension announces; a hint for the mismatch verdict, never a proof."""
    _, dot, extension = file_name.rpartition(".")
    return _BY_EXTENSION.get(extension.lower()) if dot else None
