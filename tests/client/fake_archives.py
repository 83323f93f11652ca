"""The archives of the fake API: built over some polls, of the files that were asked for, with an index of members."""

from __future__ import annotations

import base64
import io
import re
import uuid
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.client.fake import Stack

Answer = tuple[int, Any, dict[str, str]]
PAGE = 2


def refuse(status: int, code: str) -> Answer:
    return status, {"code": code, "detail": f"it is {code}"}, {}


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class Archives:
    """All archives of one fake stack; the stack's lock is held by whoever calls."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.by_id: dict[str, dict[str, Any]] = {}
        self.polls_until_final = 2
        self.ends_as = "completed"
        self.asked: list[Any] = []

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        if (method, path) == ("POST", "/v1/archives"):
            return self._begin(body)
        found = re.fullmatch(r"/v1/archives/(ar-[0-9a-f]+)(/.*)?", path)
        archive = self.by_id.get(found[1]) if found else None
        if found is None or archive is None:
            return refuse(404, "not_found")
        rest = found[2] or ""
        if rest == "":
            if method == "DELETE":
                archive["ends_as"], archive["polls"] = "cancelled", self.polls_until_final
            else:
                archive["polls"] += 1
            return 200, self._shown(archive), {}
        if rest == "/content":
            return 200, self.stack.sign("get", bytes=archive["bytes"], key=f"archives/{found[1]}"), {}
        if rest == "/members":
            first = int(query.get("next_token") or 0)
            page = [self._member(archive, n) for n in range(first, min(first + PAGE, len(archive["infos"])))]
            more = first + PAGE < len(archive["infos"])
            return 200, {"items": page, "next_token": str(first + PAGE) if more else None}, {}
        if asked := re.fullmatch(r"/members/(\d+)/content", rest):
            n = int(asked[1])
            if n >= len(archive["infos"]):
                return refuse(404, "not_found")
            signed = self.stack.sign("get", bytes=archive["bytes"], key=f"archives/{found[1]}")
            member = self._member(archive, n)
            last = member["offset"] + member["size"] - 1
            return 200, {**member, **signed, "headers": {"range": f"bytes={member['offset']}-{last}"}}, {}
        return 404, {"message": "Not Found"}, {}

    def _begin(self, body: Any) -> Answer:
        self.asked.append(body)
        if not body.get("file_ids") or any(one not in self.stack.uploads for one in body["file_ids"]):
            return refuse(404, "not_found")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for file_id in body["file_ids"]:
                info = zipfile.ZipInfo(self.stack.uploads[file_id]["name"], (2026, 1, 1, 0, 0, 0))
                archive.writestr(info, self.stack.content(file_id))
            infos = archive.infolist()
        archive_id = f"ar-{uuid.uuid4().hex}"
        self.by_id[archive_id] = {
            "archive_id": archive_id,
            "bytes": buffer.getvalue(),
            "infos": infos,
            "polls": 0,
            "ends_as": self.ends_as,
        }
        return 202, self._shown(self.by_id[archive_id]), {}

    def _member(self, archive: dict[str, Any], n: int) -> dict[str, Any]:
        info = archive["infos"][n]
        offset = info.header_offset + 30 + len(info.filename.encode())
        data = archive["bytes"][offset : offset + info.file_size]
        return {"n": n, "name": info.filename, "size": info.file_size, "offset": offset, "crc32": crc32(data)}

    def _shown(self, archive: dict[str, Any]) -> dict[str, Any]:
        final = archive["polls"] >= self.polls_until_final
        status = archive["ends_as"] if final else "building" if archive["polls"] else "queued"
        total = sum(info.file_size for info in archive["infos"])
        share = min(archive["polls"], self.polls_until_final) / max(1, self.polls_until_final)
        shown = {
            "archive_id": archive["archive_id"],
            "status": status,
            "final": final,
            "name": "a.zip",
            "size": len(archive["bytes"]) if status == "completed" else None,
            "crc32": crc32(archive["bytes"]) if status == "completed" else None,
            "reused": False,
            "progress": {"bytes_total": total if archive["polls"] else 0, "bytes_done": int(total * share)},
        }
        if status == "failed":
            shown["failure"] = {"code": "member_missing", "message": "a.tif is gone"}
        return shown
