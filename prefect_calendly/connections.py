"""Maton connections: which Calendly accounts the gateway has access to."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Literal

from pydantic import Field, SecretStr

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import ConnectionFailedError, ConnectionPendingError, InvalidAnswerError
from prefect_calendly.client.identifiers import filled_path
from prefect_calendly.resource import Resource, Time, check_choice
from prefect_calendly.tasks import make_tasks

APP = "calendly"
STATUSES = ("ACTIVE", "PENDING", "FAILED")
METHODS = ("API_KEY", "BASIC", "JWT", "OAUTH1", "OAUTH2", "MCP")
ConnectionMethod = Literal["API_KEY", "BASIC", "JWT", "OAUTH1", "OAUTH2", "MCP"]


class Connection(Resource):
    """A connection of the gateway to one Calendly account."""

    connection_id: str
    status: Literal["ACTIVE", "PENDING", "FAILED"] | str
    creation_time: Time
    last_updated_time: Time | None = None
    url: SecretStr | None = None
    """Where a person authorizes it; masked, because it holds a session token: `url.get_secret_value()`."""
    app: str
    method: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


async def list_connections_via(
    client: CalendlyClient,
    *,
    status: Literal["ACTIVE", "PENDING", "FAILED"] | None = None,
    method: ConnectionMethod | None = None,
    limit: int | None = None,
) -> list[Connection]:
    """Return the Calendly connections of this Maton account.

    Source: `GET /connections` of the connections host.

    Args:
        credentials: The gateway key to use.
        status: Only connections in this state: `ACTIVE`, `PENDING` or `FAILED`.
        method: Only connections authorized in this way; those to Calendly are `OAUTH2`.
        limit: Return at most this many; the gateway's own limit by default.

    Returns:
        The connections.

    Raises:
        ValueError: `status`, `method` or `limit` is out of range, or the credentials are for Calendly itself.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        for connection in list_connections(credentials, status="ACTIVE"):
            print(connection.connection_id, connection.creation_time)
        ```
    """
    check_choice(status, STATUSES, "status")
    check_choice(method, METHODS, "method")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit!r}")
    params = {"app": APP, "status": status, "method": method, "limit": limit}
    return await client.collection("/connections", Connection, params=params, host="connections", member="connections")


alist_connections, list_connections = make_tasks("List Maton connections", list_connections_via)


async def create_connection_via(client: CalendlyClient, *, method: ConnectionMethod | None = None) -> Connection:
    """Create a connection to a Calendly account; a person authorizes it by opening its `url` in a browser.

    After a lost answer, the request is not repeated: a pending connection that was not there before is the new one.

    Source: `POST /connections` of the connections host.

    Args:
        credentials: The gateway key to use.
        method: How it is authorized; the gateway chooses by default, for Calendly `OAUTH2`.

    Returns:
        The pending connection. Show `url.get_secret_value()` to the person, and keep it out of logs.

    Raises:
        ValueError: `method` is unknown, or the credentials are for Calendly itself.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        connection = create_connection(credentials)
        print("Open the connection's URL and log in to Calendly.")
        connection = get_active_connection(credentials, connection.connection_id)
        ```
    """
    check_choice(method, METHODS, "method")
    asked = {"app": APP} if method is None else {"app": APP, "method": method}
    known = {connection.connection_id for connection in await list_connections_via(client, status="PENDING")}

    async def create() -> Connection:
        body = await client.request("POST", "/connections", json=asked, host="connections")
        return await get_connection_via(client, _new_id(body))

    async def existing() -> Connection | None:
        pending = await list_connections_via(client, status="PENDING")
        return next((connection for connection in pending if connection.connection_id not in known), None)

    return await client.send_once(create, existing)


acreate_connection, create_connection = make_tasks("Create a Maton connection", create_connection_via, writes=True)


def _new_id(body: Any) -> str:
    """Find the ID in the answer to a new connection, which is not documented: several forms of it were seen."""
    inner = body.get("connection", body) if isinstance(body, dict) else {}
    for name in ("connection_id", "connection_Id", "id"):
        if isinstance(inner, dict) and isinstance(inner.get(name), str):
            return str(inner[name])
    raise InvalidAnswerError(
        "The new connection's answer has no ID",
        resource="Connection",
        member="connection_id",
        method="POST",
        path="/connections",
    )


async def get_connection_via(client: CalendlyClient, connection_id: str | Connection) -> Connection:
    """Return one connection.

    Source: `GET /connections/{connection_id}` of the connections host.

    Args:
        credentials: The gateway key to use.
        connection_id: ID of the connection, or the model.

    Returns:
        The connection as it is now.

    Raises:
        ValueError: `connection_id` is not an ID, or the credentials are for Calendly itself.
        NotFoundError: There is no such connection.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        connection = get_connection(credentials, "21fd90f9-5935-43cd-b6c8-bde9d915ca80")
        ```
    """
    return await client.resource(_path(connection_id), Connection, host="connections", member="connection")


aget_connection, get_connection = make_tasks("Get a Maton connection", get_connection_via)


async def delete_connection_via(client: CalendlyClient, connection_id: str | Connection) -> None:
    """Delete a connection: the gateway then has no access to that Calendly account.

    Source: `DELETE /connections/{connection_id}` of the connections host.

    Args:
        credentials: The gateway key to use.
        connection_id: ID of the connection, or the model.

    Raises:
        ValueError: `connection_id` is not an ID, or the credentials are for Calendly itself.
        NotFoundError: There is no such connection.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        connection = create_connection(credentials)
        delete_connection(credentials, connection.connection_id)
        ```
    """
    await client.delete(_path(connection_id), host="connections")


adelete_connection, delete_connection = make_tasks("Delete a Maton connection", delete_connection_via, writes=True)


async def get_active_connection_via(
    client: CalendlyClient,
    connection_id: str | Connection,
    *,
    timeout_seconds: float = 300.0,
    poll_seconds: float = 2.0,
) -> Connection:
    """Wait until a person has authorized a new connection.

    Source: `GET /connections/{connection_id}` of the connections host, repeatedly.

    Args:
        credentials: The gateway key to use.
        connection_id: ID of the connection, or the model.
        timeout_seconds: The longest to wait.
        poll_seconds: Pause between two requests.

    Returns:
        The active connection.

    Raises:
        ValueError: An argument is out of range, or the credentials are for Calendly itself.
        ConnectionFailedError: The authorization failed for good.
        ConnectionPendingError: Nobody authorized it in time.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        connection = get_active_connection(credentials, "21fd90f9-5935-43cd-b6c8-bde9d915ca80")
        ```
    """
    if timeout_seconds <= 0 or poll_seconds <= 0:
        raise ValueError("timeout_seconds and poll_seconds must be above 0")
    deadline = client.clock() + timeout_seconds
    while True:
        connection = await get_connection_via(client, connection_id)
        if connection.status == "ACTIVE":
            return connection
        if connection.status == "FAILED":
            raise ConnectionFailedError("The connection failed", path=_path(connection_id))
        if (left := deadline - client.clock()) <= 0:
            raise ConnectionPendingError(
                f"The connection is still {connection.status} after {timeout_seconds:g} s", path=_path(connection_id)
            )
        await asyncio.sleep(min(poll_seconds, left))


aget_active_connection, get_active_connection = make_tasks("Wait for a Maton connection", get_active_connection_via)


async def connection_in_use(client: CalendlyClient, connection_id: str | None) -> Connection | None:
    """Return the connection of this ID; for None, the one that the gateway chooses: the oldest active one."""
    if connection_id is not None:
        return await get_connection_via(client, connection_id)
    active = await list_connections_via(client, status="ACTIVE")
    return min(active, key=lambda connection: connection.creation_time, default=None)


def _path(connection: str | Connection) -> str:
    connection_id = connection.connection_id if isinstance(connection, Connection) else connection
    if not isinstance(connection_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", connection_id):
        raise ValueError("connection_id must be the ID of a Maton connection (letters, digits, dashes), or the model")
    return filled_path("/connections/{id}", {"id": connection_id})
