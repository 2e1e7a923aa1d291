"""What an endpoint is: a method, a path template, the parameters it knows, and a function of a `Call`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .errors import invalid
from .model import API, User
from .world import World

IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
MISSING = "is missing"


@dataclass(slots=True)
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One request to an endpoint, with the readers that refuse what Calendly refuses."""

    world: World
    caller: User
    route: Route
    params: dict[str, str]
    query: dict[str, str]
    body: Any = None
    # The caller may be bound to a gateway key (connections) instead of a Calendly user.
    key: str = ""

    def required(self, name: str) -> str:
        value = self.query.get(name)
        if value is None or value == "":
            raise invalid((name, MISSING))
        return value

    def uuid_of(self, name: str, kind: str, *, required: bool = False) -> str | None:
        """The identifier in a query parameter that must be the URI of a `kind` of resource."""
        if required:
            self.required(name)
        if name not in self.query:
            return None
        return uuid_in(self.query[name], kind, name)

    def time(self, name: str, *, required: bool = False) -> datetime | None:
        if required:
            self.required(name)
        if name not in self.query:
            return None
        return time_in(self.query[name], name)

    def choice(self, name: str, choices: tuple[str, ...], *, required: bool = False) -> str | None:
        if required:
            self.required(name)
        value = self.query.get(name)
        if value is not None and value not in choices:
            raise invalid((name, "invalid"))
        return value

    def flag(self, name: str) -> bool | None:
        value = self.choice(name, ("true", "false"))
        return None if value is None else value == "true"

    def email(self, name: str) -> str | None:
        value = self.query.get(name)
        return None if value is None else email_in(value, name)

    def sort(self, fields: tuple[str, ...], default: str) -> list[tuple[str, bool]]:
        """The sort order as (field, descending) pairs."""
        order = []
        for part in self.query.get("sort", default).split(","):
            name, _, direction = part.strip().partition(":")
            if name not in fields or direction not in ("asc", "desc"):
                raise invalid(("sort", "invalid"))
            order.append((name, direction == "desc"))
        return order

    def members(self) -> dict[str, Any]:
        """The body, which must be a JSON object."""
        if not isinstance(self.body, dict):
            raise invalid(("base", "invalid"))
        return self.body


def uuid_in(value: Any, kind: str, name: str) -> str:
    prefix = f"{API}/{kind}/"
    if isinstance(value, str) and value.startswith(prefix) and IDENTIFIER.fullmatch(value[len(prefix) :]):
        return value[len(prefix) :]
    raise invalid((name, "invalid"))


def time_in(value: Any, name: str) -> datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise invalid((name, "invalid"))


def email_in(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        raise invalid((name, "invalid"))
    return value


Handler = Callable[[Call], Answer]


@dataclass(slots=True)
class Route:
    method: str
    template: str
    handler: Handler
    query: frozenset[str]
    body: frozenset[str]
    write: str | None

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    def unknown(self, call: Call) -> list[str]:
        """The query parameters and (dotted) body members of a call that this endpoint does not know."""
        return [*(call.query.keys() - self.query), *_unknown(call.body, self.body, "")]


def _unknown(value: Any, known: frozenset[str], prefix: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, known, prefix)
    elif isinstance(value, dict):
        for name, member in value.items():
            path = prefix + name
            if path not in known:
                yield path
            elif any(other.startswith(path + ".") for other in known):
                yield from _unknown(member, known, path + ".")


class Router:
    """Finds the route of a method and path (no slash at its ends); a literal segment wins over a parameter."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}

    def add(
        self, method: str, template: str, *, query: str = "", body: str = "", write: str | None = None
    ) -> Callable[[Handler], Handler]:
        """Register an endpoint; `query` and `body` list the names it knows, `write` names what it changes."""

        def register(handler: Handler) -> Handler:
            segments = template.strip("/").split("/")
            route = Route(method, template, handler, frozenset(query.split()), frozenset(body.split()), write)
            self._by_length.setdefault((method, len(segments)), []).append((segments, route))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        given = path.split("/")
        best: tuple[Route, dict[str, str]] | None = None
        for segments, route in self._by_length.get((method, len(given)), ()):
            params: dict[str, str] = {}
            for segment, actual in zip(segments, given, strict=True):
                if segment[0] == "{":
                    params[segment[1:-1]] = actual
                elif segment != actual:
                    break
            else:
                if best is None or len(params) < len(best[1]):
                    best = route, params
        return best
