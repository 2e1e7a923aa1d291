"""Prefect's events without a server: what its API stores, finds and forgets, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from prefect.events import Event
from pydantic_core import from_json


class PrefectEvents:
    """The part of Prefect's API that is about events; a client of it too."""

    def __init__(self) -> None:
        self.stored: dict[UUID, dict[str, Any]] = {}
        """By id, as the API returns them; of two with the same id, the first."""
        self.forgets = False
        """It accepts events, and does not store them."""
        self._next: dict[str, tuple[Any, int, int]] = {}

    async def __aenter__(self) -> PrefectEvents:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Any = None, content: bytes = b"", headers: Any = None
    ) -> Any:
        if (method, path) == ("POST", "/events"):
            self._store(from_json(content))
            return SimpleNamespace(status_code=204)
        if (method, path) == ("POST", "/events/filter"):
            return self._page(json["filter"], json["limit"], 0)
        if (method, path) == ("GET", "/events/filter/next"):
            return self._page(*self._next[params["page-token"]])
        raise NotImplementedError(f"{method} {path} needs a Prefect server")

    def _store(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            taken = Event.model_validate(event).model_dump(mode="json")  # refuses what Prefect refuses
            if not self.forgets:
                self.stored.setdefault(UUID(event["id"]), {**taken, "received": datetime.now(UTC).isoformat()})

    def _page(self, wanted: dict[str, Any], limit: int, first: int) -> Any:
        found = sorted(
            (event for event in self.stored.values() if _fits(event, wanted)),
            key=lambda event: datetime.fromisoformat(event["occurred"]),
            reverse=wanted.get("order") == "DESC",
        )
        token = None
        if len(found) > first + limit:
            self._next[token := str(len(self._next))] = (wanted, limit, first + limit)
        page = {
            "events": found[first : first + limit],
            "total": len(found),
            "next_page": token and f"http://prefect.test/api/events/filter/next?page-token={token}",
        }
        return SimpleNamespace(json=lambda: page)

    def about(self, *uris: str) -> list[tuple[str, str]]:
        """Name and source of the events about some scheduled events, the oldest first."""
        ids = {f"calendly.scheduled-event.{uri.rpartition('/')[2]}" for uri in uris}
        found = [event for event in self.stored.values() if ids & set(_related_ids(event))]
        found.sort(key=lambda event: datetime.fromisoformat(event["occurred"]))
        return [(event["event"], event["resource"]["calendly.source"]) for event in found]


def _fits(event: dict[str, Any], wanted: dict[str, Any]) -> bool:
    occurred = datetime.fromisoformat(event["occurred"])
    span = wanted.get("occurred", {})
    if "since" in span and occurred < datetime.fromisoformat(span["since"]):
        return False
    if occurred > datetime.fromisoformat(span["until"]) if "until" in span else occurred > datetime.now(UTC):
        return False
    if "id" in wanted and event["id"] not in wanted["id"]["id"]:
        return False
    if "event" in wanted and event["event"] not in wanted["event"]["name"]:
        return False
    roles = [[each["prefect.resource.id"], each["prefect.resource.role"]] for each in event["related"]]
    if "related" in wanted and not any(each in roles for each in wanted["related"]["resources_in_roles"]):
        return False
    labels = wanted.get("resource", {}).get("labels", {})
    return all(event["resource"].get(label) == value for label, value in labels.items())


def _related_ids(event: dict[str, Any]) -> Iterator[str]:
    for resource in event["related"]:
        yield resource["prefect.resource.id"]
