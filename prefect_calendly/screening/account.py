"""Whose events are screened: the current user's, or the whole organization's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prefect_calendly.bookings.listing import Scope
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.organizations import alist_memberships
from prefect_calendly.screening.domains import read_address
from prefect_calendly.users import aget_current_user


@dataclass(frozen=True, slots=True)
class Account:
    """A user or an organization, and what decisions need to know of its people."""

    uri: str
    """URI of the user or the organization."""
    user: str
    """URI of the current user."""
    timezone: str
    """The current user's."""
    domains: frozenset[str]
    """E-mail domains of the user, or of all members."""
    host_zones: Mapping[str, str | None]
    """Time zones of the user, or of all members, by URI."""


async def read_account(credentials: CalendlyCredentials, scope: Scope) -> Account:
    """Read whose events are screened.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        scope: The current user only, or the organization with all its members.

    Raises:
        CalendlyError: See `prefect_calendly.client.errors`.
    """
    user = await aget_current_user(credentials)
    if scope == "user":
        return Account(user.uri, user.uri, user.timezone, _domains([user.email]), {user.uri: user.timezone})
    memberships = await alist_memberships(credentials, organization=user.current_organization)
    members = [membership.user for membership in memberships]
    return Account(
        uri=user.current_organization,
        user=user.uri,
        timezone=user.timezone,
        domains=_domains(member.email for member in members),
        host_zones={member.uri: member.timezone for member in members},
    )


def _domains(emails: Iterable[str]) -> frozenset[str]:
    return frozenset(address.domain for email in emails if (address := read_address(email)))
