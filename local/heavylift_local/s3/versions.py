"""Version ids that can be told from made-up ones: 16 random bytes and their CRC64NVME, base64url. No I/O here.

S3 answers 400 for an id it never made and 404 for one that is gone; the check digits tell which is which.
"""

import base64
import binascii
import secrets

from awscrt.checksums import crc64nvme

NULL = "null"  # S3's name for the version of an object in a bucket without versioning


def new() -> str:
    random = secrets.token_bytes(16)
    return base64.urlsafe_b64encode(random + crc64nvme(random).to_bytes(8, "big")).decode()


def is_ours(text: str) -> bool:
    if text == NULL:
        return True
    if len(text) != 32:
        return False
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(crc64nvme(raw[:16]).to_bytes(8, "big") == raw[16:])
