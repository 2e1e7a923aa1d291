"""Events in Prefect's API: read them, post them, and make sure that they are stored.

Whatever is at Prefect's address may answer: what does not answer as Prefect does is an `httpx.HTTPError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client

from prefect_calendly.client.transport import MOST_BYTES
from prefect_calendly.events.event import SOURCE_LABEL, CalendlyEvent, resource_id

T = TypeVar("T")

_EVENTS_PER_PAGE: Final = 50  # Prefect returns no more.
_EVENTS_PER_POST: Final = 200
# Prefect stores an event within some 5 seconds of accepting it.
_PAUSES_SECONDS: Final = (0.5, 1, 2, 3, 5)


class EventsNotStoredError(Exception):
    """Prefect accepted events and does not show them: it was restarted, or its database has a problem."""


def events_client(**settings: Any) -> PrefectClient:
    """Return a client of the Prefect API that reads no more of an answer than any has.

    Args:
        settings: Further settings of its httpx client.
    """
    # Not packed: some bytes would unpack to more than there is memory.
    headers = {"Accept-Encoding": "identity"}
    return get_client(httpx_settings={"headers": headers, "event_hooks": {"response": [_bound]}, **settings})


async def _bound(answer: httpx.Response) -> None:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise httpx.DecodingError("Prefect's answer is packed, and was not to be", request=answer.request)
    assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101  (for mypy: of an asynchronous client)
    answer.stream = _Bounded(answer.stream, answer.request)


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > MOST_BYTES:
                raise httpx.DecodingError(
                    f"Prefect's answer has more than {MOST_BYTES // 1024**2} MiB", request=self._request
                )
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextlib.contextmanager
def _answers_as_prefect() -> Iterator[None]:
    """Reads an answer inside: one of another shape is an error of HTTP, as if there was none."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise httpx.DecodingError("what is at PREFECT_API_URL does not answer as Prefect does") from None


async def check_ready(client: PrefectClient) -> None:
    """Make sure that Prefect answers, and its database too.

    Raises:
        httpx.HTTPError: It does not.
    """
    with _answers_as_prefect():
        if (await client.request("GET", "/ready")).json()["message"] != "OK":
            raise ValueError


async def post_bodies(client: PrefectClient, bodies: Iterable[str]) -> None:
    """Post some hundred events to Prefect, as JSON; none, to see whether it would take some.

    Raises:
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    with _answers_as_prefect():
        answer = await client.request(
            "POST",
            "/events",
            content=f"[{','.join(bodies)}]".encode(),
            headers={"content-type": "application/json"},
        )
        if answer.status_code != 204:  # a login page, perhaps
            raise ValueError


async def post_events(client: PrefectClient, events: Sequence[CalendlyEvent]) -> None:
    """Post events to Prefect, which stores an id once.

    Prefect accepts events before it stores them: `emit_missing` makes sure that they are stored.

    Args:
        client: A client of the Prefect API.
        events: The events.

    Raises:
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    for batch in _batched(events, _EVENTS_PER_POST):
        await post_bodies(client, [json.dumps(event.as_json()) for event in batch])


async def known_events(client: PrefectClient, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return those of some events that Prefect has; it deletes events after 7 days.

    Args:
        client: A client of the Prefect API.
        ids: Ids of the events.

    Returns:
        The events as Prefect returns them, by id; `received` is when it got them.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    found: dict[UUID, dict[str, Any]] = {}
    # Without `until`, Prefect takes now; Calendly's clock may be ahead.
    until = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    since = datetime(2000, 1, 1, tzinfo=UTC).isoformat()
    for batch in _batched(dict.fromkeys(ids), _EVENTS_PER_PAGE):
        wanted = {"id": {"id": [str(each) for each in batch]}, "occurred": {"since": since, "until": until}}
        with _answers_as_prefect():
            answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": _EVENTS_PER_PAGE})
            found.update((UUID(each["id"]), each) for each in answer.json()["events"])
    return found


async def stored_events(
    client: PrefectClient, names: Sequence[str], since: datetime, until: datetime
) -> AsyncIterator[dict[str, Any]]:
    """Return the events of some names that occurred in a window, the oldest first.

    Args:
        client: A client of the Prefect API.
        names: Names of the events, such as `calendly.invitee.created`.
        since: Start of the window (aware), inclusive.
        until: End of the window (aware), inclusive.

    Returns:
        The events as Prefect returns them, page by page.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted = {"event": {"name": list(names)}, "occurred": occurred, "order": "ASC"}
    token = None
    while True:
        with _answers_as_prefect():
            if token is None:
                body = {"filter": wanted, "limit": _EVENTS_PER_PAGE}
                answer = await client.request("POST", "/events/filter", json=body)
            else:
                answer = await client.request("GET", "/events/filter/next", params={"page-token": token})
            page = answer.json()
            found, following = page["events"], page["next_page"]
            # Only the token: the link has the host name that the server believes to have.
            token = httpx.URL(following).params["page-token"] if following else None
        for event in found:
            yield event
        if token is None or not found:  # only the last page is not full
            return


async def count_events(
    client: PrefectClient, name: str, since: datetime, until: datetime, *, related_to: tuple[str, str] | None = None
) -> int:
    """Return how many events of a name occurred in a window, by one request.

    Args:
        client: A client of the Prefect API.
        name: Name of the events.
        since: Start of the window (aware), inclusive.
        until: End of the window (aware), inclusive.
        related_to: URI of a Calendly resource, and its role: only events that it is related to in this role.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    occurred = {"since": since.isoformat(), "until": until.isoformat()}
    wanted: dict[str, Any] = {"event": {"name": [name]}, "occurred": occurred}
    if related_to is not None:
        uri, role = related_to
        wanted["related"] = {"resources_in_roles": [[resource_id(uri), role]]}
    with _answers_as_prefect():
        answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
        return int(answer.json()["total"])


async def last_delivery(client: PrefectClient) -> datetime | None:
    """Return when Prefect last received an event from a webhook; None if it has none.

    Args:
        client: A client of the Prefect API.

    Raises:
        httpx.HTTPError: Prefect was not reached, or gave no answer.
    """
    until = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    wanted = {"resource": {"labels": {SOURCE_LABEL: "webhook"}}, "occurred": {"until": until}, "order": "DESC"}
    with _answers_as_prefect():
        answer = await client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
        found = answer.json()["events"]
        return datetime.fromisoformat(found[0]["received"]) if found else None


async def emit_missing(
    client: PrefectClient,
    events: Collection[CalendlyEvent],
    *,
    within: timedelta = timedelta(seconds=60),
    pauses: Sequence[float] = _PAUSES_SECONDS,
) -> list[CalendlyEvent]:
    """Post those of some events that Prefect does not have, and wait until it has stored them.

    Safe to repeat, and beside a receiver that posts the same events.

    Args:
        client: A client of the Prefect API.
        events: The events.
        within: How long to wait until all of them are stored.
        pauses: Seconds before each look for them; after the last one they are posted again.

    Returns:
        Those that were missing, in the given order.

    Raises:
        EventsNotStoredError: Some are not stored after that time, although they were posted again.
        httpx.HTTPError: Prefect was not reached, or refused them.
    """
    by_id = {event.id: event for event in events}
    known = await known_events(client, by_id)
    missing = [event for ident, event in by_id.items() if ident not in known]
    left, deadline = missing, time.monotonic() + within.total_seconds()
    for attempt in itertools.count():
        if not left:
            return missing
        # A server that is restarted loses what it has accepted and not stored: then it is posted again.
        if attempt % len(pauses) == 0:
            await post_events(client, left)
        await asyncio.sleep(pauses[attempt % len(pauses)])
        known = await known_events(client, [event.id for event in left])
        left = [event for event in left if event.id not in known]
        if left and time.monotonic() > deadline:
            break
    raise EventsNotStoredError(
        f"Prefect accepted {len(left)} of {len(missing)} events and does not show them after "
        f"{within.total_seconds():g} s: look at the log and the database of its server, then run this again"
    )


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
