"""What a sandbox is started with; the command line has options of the same names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect_calendly.sandbox.clock import check_speed

PLANS = ("free", "standard", "teams", "enterprise")


@dataclass(slots=True, frozen=True)
class Options:
    """The size of the seeded world, the clock, the limits and the keys of a sandbox.

    Args:
        events: Scheduled events of the organization, at least those of the documentation and the showcase.
        invitees: Invitees of these events, at least as many as events; one each by default.
        hosts: Hosts besides Alice, at least 1; the first is the owner.
        upcoming: Whether all but a few of the events lie in the future; otherwise a third lies in the past.
        seed: The same seed, with the same `now`, makes the same world.
        now: Time at which the clock starts, as ISO 8601 text (UTC unless it has an offset) or datetime; the real time
            by default.
        clock_speed: Seconds of the sandbox's clock per real second, above 0 and at most 1,000,000.
        latency_ms: Milliseconds added to every answer.
        gateway_rps: The gateway's limit in requests per second and key; 0 turns it off.
        rate_limit_per_minute: Calendly's limit in requests per user and minute; by default that of the plan (50 on the
            free plan, else 500); 0 turns it off, and the limits on bookings with it.
        plan: `free`, `standard`, `teams` or `enterprise`.
        api_key: The gateway's API key.
        second_key: Another API key, which has no Calendly connection.
        native_token: Personal access token for `/native`.

    Raises:
        ValueError: An option is out of range.
    """

    events: int = 300
    invitees: int | None = None
    hosts: int = 3
    upcoming: bool = False
    seed: int = 1
    now: str | datetime | None = None
    clock_speed: float = 1
    latency_ms: float = 0
    gateway_rps: float = 10
    rate_limit_per_minute: int | None = None
    plan: str = "teams"
    api_key: str = "sandbox-key"
    second_key: str = "sandbox-key-2"
    native_token: str = "sandbox-token"  # noqa: S105 - opens nothing real

    def __post_init__(self) -> None:
        if self.plan not in PLANS:
            raise ValueError(f"plan must be one of {', '.join(PLANS)}, not {self.plan!r}")
        if self.hosts < 1:
            raise ValueError("hosts must be at least 1: the organization needs an owner besides Alice")
        if self.events < 0:
            raise ValueError("events must not be negative")
        if self.invitees is not None and self.invitees < self.events:
            raise ValueError("invitees must be at least the number of events: each event has one or more")
        if self.events == 0 and self.invitees:
            raise ValueError("invitees must be 0 when events is 0")
        check_speed(self.clock_speed)

    @property
    def calendly_limit(self) -> int:
        """Calendly's requests per user and minute; 0 is off."""
        if self.rate_limit_per_minute is not None:
            return self.rate_limit_per_minute
        return 50 if self.plan == "free" else 500
