"""What to do about one event under a policy, and why. Nothing here sends a request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from prefect_calendly.client.identifiers import uuid_of
from prefect_calendly.invitees import Invitee
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.screening.domains import Address, read_address
from prefect_calendly.screening.policy import CancelPolicy


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a policy decides about an event, with its lists as sets: make it once, and use it for all events."""

    blocked: frozenset[str]
    allowed: frozenset[str]
    allowed_emails: frozenset[str] = field(repr=False)
    own: frozenset[str]
    """The organization's own domains, if they are protected."""
    include_subdomains: bool
    check_guests: bool
    cancel_group_events: bool

    @classmethod
    def of(cls, policy: CancelPolicy, own_domains: Iterable[str] = ()) -> Rules:
        """Make the rules of a policy.

        Args:
            policy: Whose bookings are not wanted.
            own_domains: Domains of the organization's members, as `comparable_domain` returns them.

        Example:
            >>> rules = Rules.of(CancelPolicy(blocked_domains=["spam.example"]))
            >>> rules.blocked_domain(Address("eve", "mail.spam.example"))
            'spam.example'
        """
        return cls(
            blocked=frozenset(policy.blocked_domains),
            allowed=frozenset(policy.allowed_domains),
            allowed_emails=frozenset(policy.allowed_emails),
            own=frozenset(own_domains) if policy.protect_own_domains else frozenset(),
            include_subdomains=policy.include_subdomains,
            check_guests=policy.check_guests,
            cancel_group_events=policy.group_events == "cancel",
        )

    def blocked_domain(self, address: Address) -> str | None:
        """Return the blocked domain that an address belongs to; None if the address is welcome."""
        found = self._listed(address.domain, self.blocked)
        if found is None or self._listed(address.domain, self.allowed):
            return None
        if f"{address.local}@{address.domain}" in self.allowed_emails:
            return None
        return None if self._listed(address.domain, self.own) else found

    def match(self, role: Literal["invitee", "guest"], email: str) -> Match | None:
        """Return somebody who is of a blocked domain, or whose address cannot be read; None of all others."""
        address = read_address(email)
        domain = self.blocked_domain(address) if address else None
        return Match(email, role, domain) if domain or not address else None

    def _listed(self, domain: str, domains: frozenset[str]) -> str | None:
        return next((each for each in _itself_and_parents(domain, self.include_subdomains) if each in domains), None)


@dataclass(frozen=True, slots=True)
class Match:
    """Somebody of a blocked domain, or whose domain nobody knows."""

    email: str = field(repr=False)
    role: Literal["invitee", "guest"]
    domain: str | None
    """The blocked domain, as in the policy; None: the address is no plain one."""

    def __str__(self) -> str:
        return f"{self.role} of {self.domain}" if self.domain else f"{self.role} whose address cannot be read"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one event, and why."""

    event: str
    """URI of the event."""
    start: datetime
    host_zone: str | None
    action: Literal["keep", "report", "cancel", "undecided", "unknown"]
    """`undecided`: an address cannot be read, so a person must look; `unknown`: its invitees could not be listed."""
    why: str
    matches: tuple[Match, ...] = ()
    shared: bool = False
    """Whether others can book the same event."""
    name: str = field(default="", repr=False)
    """The event's name, which is that of its type unless somebody has changed it."""
    hosts: tuple[str, ...] = field(default=(), repr=False)
    """Names of its hosts; the address of one without a name."""

    @property
    def uuid(self) -> str:
        """The event's uuid."""
        return uuid_of(self.event, "scheduled_events", "event")


def decide(
    event: ScheduledEvent,
    invitees: Iterable[Invitee],
    rules: Rules,
    host_zones: Mapping[str, str | None] = MappingProxyType({}),
) -> Decision:
    """Decide about one event.

    Args:
        event: The event.
        invitees: Its invitees; canceled ones do not count.
        rules: Those of the policy.
        host_zones: IANA time zones of hosts, by URI of the user; only for the decision's `host_zone`.

    Returns:
        The decision: `cancel`, `report` (others have booked this group event too), `undecided` (nobody is of a
        blocked domain, and an address cannot be read) or `keep`.

    Example:
        ```python
        event = get_scheduled_event(credentials, "DDDDDDDDDDDDDDDD")
        invitees = list_invitees(credentials, event)
        decision = decide(event, invitees, Rules.of(CancelPolicy(blocked_domains=["spam.example"])))
        ```
    """
    active = [invitee for invitee in invitees if invitee.status != "canceled"]
    people: list[tuple[Literal["invitee", "guest"], str]] = [("invitee", invitee.email) for invitee in active]
    if rules.check_guests:
        people += [("guest", guest.email) for guest in event.event_guests]
    found = [match for role, email in people if (match := rules.match(role, email)) is not None]
    blocked = [match for match in found if match.domain is not None]
    matches = tuple(blocked or found)
    shared = event.invitees_counter.limit > 1 or len(active) > 1
    others = len(active) - sum(match.role == "invitee" for match in blocked)
    why = ", ".join(dict.fromkeys(map(str, matches)))
    action: Literal["keep", "report", "cancel", "undecided"] = "cancel" if blocked else "undecided"
    if blocked and shared and others:
        why += f"; {pluralize(others, 'other invitee')}"
    if event.status == "canceled" or not matches:
        action = "keep"
    elif blocked and shared and others and not rules.cancel_group_events:
        action = "report"
    host_zone = next((host_zones[host.user] for host in event.event_memberships if host.user in host_zones), None)
    hosts = tuple(name for host in event.event_memberships if (name := host.user_name or host.user_email))
    return Decision(event.uri, event.start_time, host_zone, action, why, matches, shared, event.name or "", hosts)


def own_domain_warnings(policy: CancelPolicy, own_domains: Collection[str]) -> list[str]:
    """Return a warning for each blocked domain that is the organization's own, or a subdomain or parent of it."""
    if not policy.protect_own_domains:
        return []
    blocked, own, within = dict.fromkeys(policy.blocked_domains), frozenset(own_domains), policy.include_subdomains
    pairs = {(mine, each) for mine in own for each in _itself_and_parents(mine, within) if each in blocked}
    pairs |= {(mine, each) for each in blocked for mine in _itself_and_parents(each, within) if mine in own}
    return [
        f"{each} is blocked, but {mine} is one of your own domains: its addresses stay welcome."
        if each != mine
        else f"{each} is blocked, but it is one of your own domains: its addresses stay welcome."
        for mine, each in sorted(pairs)
    ]


def _itself_and_parents(domain: str, parents: bool) -> Iterator[str]:
    while domain:
        yield domain
        domain = domain.partition(".")[2] if parents else ""
