"""The Content-Security-Policy of each of the page's files, out of ``web/headers.json``. Pure, standard library only.

The local gateway reads the same document; a test holds the two readings together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADERS_FILE = "headers.json"


def policy(document: Mapping[str, Any], name: str, origins: Mapping[str, Sequence[str]]) -> str:
    """The policy of the file ``name``, with ``origins`` for each placeholder. Only what hashes may compile wasm."""
    directives = {
        key: [origin for source in sources for origin in origins.get(source, (source,))]
        for key, sources in document["content_security_policy"].items()
    }
    if name in document["wasm"]["paths"]:
        directives["script-src"] = list(document["wasm"]["script-src"])
    return "; ".join(" ".join((key, *sources)) for key, sources in directives.items())
