"""What an endpoint is: a method, a path template, the parameters it knows, and a function from `Call` to `Answer`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefect_calendly.sandbox.errors import invalid
from prefect_calendly.sandbox.model import API, User
from prefect_calendly.sandbox.world import World

IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
MISSING = "is missing"


@dataclass(slots=True)
class Answer:
    """The answer to a request; `body` is JSON, or text as it is sent."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def resource(body: Any, status: int = 200) -> Answer:
    """Answer with one resource."""
    return Answer(status, {"resource": body})


def collection(items: list[Any]) -> Answer:
    """Answer with a listing that has no pages."""
    return Answer(200, {"collection": items})


@dataclass(slots=True)
class Call:
    """One request to an endpoint; its methods read parameters, and refuse what Calendly refuses."""

    world: World
    caller: User
    route: Route
    params: dict[str, str]
    query: dict[str, str]
    body: Any = None
    # The gateway's API key, which its own endpoints (connections) go by instead of the caller.
    key: str = ""

    def required(self, name: str) -> str:
        """A query parameter that must be given."""
        value = self.query.get(name)
        if value is None or value == "":
            raise invalid((name, MISSING))
        return value

    def uuid_of(self, name: str, kind: str, *, required: bool = False) -> str | None:
        """The identifier in a query parameter, which must be the URI of a resource of this kind."""
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
        """The members of the body, which must be a JSON object."""
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
    """A method and path template with its handler, the names it knows, and the name of what it changes, if anything."""

    method: str
    template: str
    handler: Handler
    query: frozenset[str]
    body: frozenset[str]
    write: str | None
    segments: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.segments = self.template.strip("/").split("/")

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    def match(self, path: list[str]) -> dict[str, str] | None:
        """The parameters in the segments of a path of the same length; None if it is another path."""
        params: dict[str, str] = {}
        for segment, actual in zip(self.segments, path, strict=True):
            if segment[0] == "{":
                params[segment[1:-1]] = actual
            elif segment != actual:
                return None
        return params

    def unknown(self, call: Call) -> list[str]:
        """The query parameters and the (dotted) body members of a call that the endpoint does not know."""
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
    """Registers endpoints, and finds the one of a method and path; a literal segment wins over a parameter."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[str, int], list[Route]] = {}

    def add(
        self, method: str, template: str, *, query: str = "", body: str = "", write: str | None = None
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function as an endpoint.

        Args:
            method: HTTP method.
            template: Path, with parameters in braces.
            query: Names of the query parameters it knows, separated by blanks; others are ignored and counted.
            body: Names of the body members it knows, dotted where nested.
            write: Under which name `stats` counts what it changes; None for reading.
        """

        def register(handler: Handler) -> Handler:
            self._add(Route(method, template, handler, frozenset(query.split()), frozenset(body.split()), write))
            return handler

        return register

    def include(self, other: Router) -> None:
        """Register the endpoints of another router."""
        for routes in other._by_length.values():
            for route in routes:
                self._add(route)

    def _add(self, route: Route) -> None:
        self._by_length.setdefault((route.method, len(route.segments)), []).append(route)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of a path without slashes at its ends, and the path's parameters."""
        given = path.split("/")
        best: tuple[Route, dict[str, str]] | None = None
        for route in self._by_length.get((method, len(given)), ()):
            params = route.match(given)
            if params is not None and (best is None or len(params) < len(best[1])):
                best = route, params
        return best
