"""What is said of a route: the form in which operations are described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from heavylift_local.openapi.schemas import Schema


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    means: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Operation:
    """``answers``: status -> (schema's name or None, what it means). ``codes``: of the problems that it answers.

    ``body``: a pydantic model, or a schema by hand for ``sign``, which loads no pydantic. ``keyed``: takes an
    Idempotency-Key. ``media``: of answers with a body, in place of JSON; ``body_media``: of the request's.
    """

    summary: str
    answers: Mapping[int, tuple[str | None, str]]
    codes: tuple[str, ...] = ()
    means: str = ""
    path: Mapping[str, Schema] = field(default_factory=dict)
    query: tuple[Parameter, ...] = ()
    body: type[BaseModel] | Schema | None = None
    body_required: bool = True
    keyed: bool = False
    media: tuple[str, ...] = ()
    body_media: tuple[str, ...] = ("application/json",)
