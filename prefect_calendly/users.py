"""Users: people with a Calendly account."""

from __future__ import annotations

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.identifiers import Reference, filled_path, uuid_of
from prefect_calendly.resource import Resource, Time
from prefect_calendly.tasks import make_tasks


class User(Resource):
    """A Calendly user."""

    uri: str
    name: str
    slug: str | None = None
    email: str
    scheduling_url: str
    timezone: str
    avatar_url: str | None = None
    created_at: Time
    updated_at: Time
    current_organization: str
    resource_type: str = "User"
    locale: str | None = None
    time_notation: str | None = None


async def get_current_user_via(client: CalendlyClient) -> User:
    """Return the user that the credentials belong to.

    Source: `GET /users/me`.

    Args:
        credentials: The Calendly account to use.

    Returns:
        The user; `current_organization` is the URI that organization-wide calls need.

    Raises:
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        print(user.timezone)
        ```
    """
    return await client.resource("/users/me", User)


aget_current_user, get_current_user = make_tasks("Get the current Calendly user", get_current_user_via)


async def get_user_via(client: CalendlyClient, user: Reference) -> User:
    """Return one user of the organization.

    Source: `GET /users/{uuid}`.

    Args:
        credentials: The Calendly account to use.
        user: URI, uuid or model of the user; `me` is the current one.

    Returns:
        The user.

    Raises:
        ValueError: `user` does not name a user.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_user(credentials, "AAAAAAAAAAAAAAAA")
        ```
    """
    return await client.resource(filled_path("/users/{uuid}", {"uuid": uuid_of(user, "users", "user")}), User)


aget_user, get_user = make_tasks("Get a Calendly user", get_user_via)
