"""Organizations: who belongs to them, and in which role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.identifiers import Reference, optional_uris
from prefect_calendly.resource import Resource, Time, check_choice, check_email
from prefect_calendly.tasks import make_tasks


class MembershipUser(Resource):
    """The user inside a membership."""

    uri: str
    name: str
    email: str
    slug: str | None = None
    scheduling_url: str | None = None
    timezone: str | None = None
    avatar_url: str | None = None
    locale: str | None = None
    created_at: Time | None = None
    updated_at: Time | None = None


class OrganizationMembership(Resource):
    """A user's place in an organization."""

    uri: str
    role: Literal["owner", "admin", "user"] | str
    user: MembershipUser
    organization: str
    created_at: Time
    updated_at: Time


async def list_memberships_via(
    client: CalendlyClient,
    *,
    organization: Reference | None = None,
    user: Reference | None = None,
    email: str | None = None,
    role: Literal["owner", "admin", "user"] | None = None,
    count: int = 100,
    page_token: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[OrganizationMembership]:
    """Return the memberships of an organization or of a user.

    Source: `GET /organization_memberships`.

    Args:
        credentials: The Calendly account to use.
        organization: Only memberships of this organization; this or `user` is required.
        user: Only memberships of this user.
        email: Only the membership of the user with this address.
        role: Only memberships with this role: `owner`, `admin` or `user`.
        count: Items per page, 1 to 100.
        page_token: Where to start: the token of an earlier answer to the same call, with the same `count`.
        limit: Return at most this many items; all by default.

    Returns:
        The memberships.

    Raises:
        ValueError: Neither `organization` nor `user` is given, or an argument is out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        for membership in list_memberships(credentials, organization=user.current_organization):
            print(membership.role, membership.user.timezone)
        ```
    """
    if organization is None and user is None:
        raise ValueError("give `organization` or `user`")
    check_email(email, "email")
    check_choice(role, ("owner", "admin", "user"), "role")
    filters = optional_uris(organization=(organization, "organizations"), user=(user, "users"))
    async for membership in client.pages(
        "/organization_memberships",
        OrganizationMembership,
        params={**filters, "email": email, "role": role},
        count=count,
        page_token=page_token,
        limit=limit,
    ):
        yield membership


alist_memberships, list_memberships = make_tasks("List organization memberships", list_memberships_via)
