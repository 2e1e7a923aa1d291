"""What a control call is: a method, a path, and a function from `ControlCall` to JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from prefect_calendly.sandbox.model import Event, EventType, User
from prefect_calendly.sandbox.state import State
from prefect_calendly.sandbox.world import World

JSON = dict[str, Any]


@dataclass(slots=True)
class ControlCall:
    """One call of the control surface; its methods find what it names. Mistakes are KeyError or ValueError."""

    state: State
    path: dict[str, str]
    query: QueryParams
    body: Any

    @property
    def world(self) -> World:
        return self.state.world

    def members(self, *known: str) -> JSON:
        """The body, which must be an object with no other members than these."""
        return only(self.body, *known)

    def event(self) -> Event:
        """The event in the path."""
        uuid = self.path["uuid"]
        event = self.world.events.get(uuid)
        if event is None:
            raise ValueError(f"no scheduled event {uuid!r}")
        return event

    def user(self, name: str) -> User:
        """The user with this identifier, URI or address."""
        for user in self.world.users.values():
            if name in (user.uuid, user.uri, user.email):
                return user
        raise ValueError(f"no user {name!r}")

    def event_type(self, name: str | None, host: User) -> EventType:
        """The event type with this identifier or URI; without a name, an active one of the host alone."""
        types = self.world.event_types
        if name is not None:
            return types[last_segment(name)]
        for item in types.values():
            if item.hosts == [host] and item.kind == "solo" and item.active:
                return item
        raise ValueError(f"{host.name} has no event type; name one")


Handler = Callable[[ControlCall], JSON | Awaitable[JSON]]
H = TypeVar("H", bound=Handler)


class Calls:
    """Registers the handlers of control calls."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str, str, Handler]] = []

    def add(self, method: str, path: str) -> Callable[[H], H]:
        """Register the decorated function as the handler of a call."""

        def register(handler: H) -> H:
            self._handlers.append((method, path, handler))
            return handler

        return register

    def include(self, other: Calls) -> None:
        """Register the handlers of another collection."""
        self._handlers += other._handlers

    def names(self) -> list[tuple[str, str]]:
        """The methods and paths of the calls."""
        return [(method, path) for method, path, _ in self._handlers]

    def routes(self, state: State) -> list[Route]:
        return [
            Route(f"/_sandbox{path}", _endpoint(state, handler), methods=[method])
            for method, path, handler in self._handlers
        ]


def _endpoint(state: State, handler: Handler) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = await request.json() if await request.body() else {}
            answer = handler(ControlCall(state, request.path_params, request.query_params, body))
            return JSONResponse(await answer if isawaitable(answer) else answer)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            message = f"{error.args[0]!r} is missing or unknown" if isinstance(error, KeyError) else str(error)
            return JSONResponse({"error": message}, 400)

    return endpoint


def only(body: Any, *known: str) -> JSON:
    """Check that a body is an object with no other members than these."""
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    unknown = body.keys() - set(known)
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return body


def last_segment(uri: str) -> str:
    """The identifier at the end of a URI; an identifier stays as it is."""
    return uri.rpartition("/")[2]
