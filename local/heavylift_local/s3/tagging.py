"""Tags: pairs on an object or a bucket, and what S3 takes for them. No I/O here.

Limits: "Categorizing your objects using tags", Amazon S3 user guide; characters: "Tag" of the API reference.
"""

import re
from urllib.parse import unquote_plus

from heavylift_local.s3.errors import S3Error, invalid_argument
from heavylift_local.s3.request import Request
from heavylift_local.s3.service import Service
from heavylift_local.s3.store import Tags
from heavylift_local.s3.xml import Node, Tree, element

TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
KEY_CHARS_MAX = 128
VALUE_CHARS_MAX = 256
_ALLOWED = re.compile(r"^[\w\s+\-=.:/@]*$")


def check(tags: Tags, limit: int = TAGS_MAX) -> Tags:
    """*tags* if S3 takes them. Raises InvalidTag, BadRequest (too many)."""
    if len(tags) > limit:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {limit}")
    for key, value in tags:
        if not 1 <= len(key) <= KEY_CHARS_MAX or not _ALLOWED.match(key):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", fields={"TagKey": key})
        if key.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "System tags cannot be added/updated by requester", fields={"TagKey": key})
        if len(value) > VALUE_CHARS_MAX or not _ALLOWED.match(value):
            fields = {"TagKey": key, "TagValue": value}
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", fields=fields)
    if len({key for key, _ in tags}) != len(tags):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", fields={"TagKey": _twice(tags)})
    return tags


def _twice(tags: Tags) -> str:
    seen: set[str] = set()
    for key, _ in tags:
        if key in seen:
            return key
        seen.add(key)
    return ""


def of_header(service: Service, request: Request) -> Tags:
    """The tags of x-amz-tagging, `a=b&c=d`; who writes them needs s3:PutObjectTagging too."""
    text = request.headers.get("x-amz-tagging")
    if not text:
        return ()
    service.authorize(request, "s3:PutObjectTagging", f"{request.bucket}/{request.key}")
    try:
        pairs = [piece.partition("=") for piece in text.encode("latin-1").decode("utf-8").split("&") if piece]
        tags = tuple((unquote_plus(k, errors="strict"), unquote_plus(v, errors="strict")) for k, _, v in pairs)
    except UnicodeDecodeError:
        tags = (("", ""),)
    if any(not key for key, _ in tags) or _twice(tags):
        message = (
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
            "name duplicates."
        )
        raise invalid_argument(message, "x-amz-tagging", text)
    return check(tags)


def of_node(root: Node, limit: int = TAGS_MAX) -> Tags:
    """The tags of a <Tagging> document. Raises MalformedXML and what `check` raises."""
    root.only("TagSet")
    if len(root.children) != 1:
        raise S3Error("MalformedXML")
    tags = []
    for tag in root.children[0].children:
        tag.only("Key", "Value")
        key, value = tag.get("Key"), tag.get("Value")
        if tag.name != "Tag" or key is None or value is None:
            raise S3Error("MalformedXML")
        tags.append((key, value))
    return check(tuple(tags), limit)


def of_form(text: str) -> Tags:
    """The tags of a form's field; a document of another kind has none (recorded). Raises MalformedXML."""
    tree = Tree("")
    tree.update(memoryview(text.encode()))
    root = tree.close()
    return of_node(root) if root.name == "Tagging" else ()


def tag_set(tags: Tags) -> str:
    inner = (f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>" for key, value in tags)
    return f"<TagSet>{''.join(inner)}</TagSet>"
