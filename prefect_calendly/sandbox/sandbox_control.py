"""The control surface as methods: reading, resetting and arranging a running sandbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect_calendly.sandbox.clock import parse_time
from prefect_calendly.sandbox.remote import control

JSON = dict[str, Any]


class SandboxControl:
    """The control surface of a running sandbox. Its methods may be called from any thread.

    Args:
        url: Base URL of the sandbox, without a slash at its end.

    Example:
        >>> SandboxControl(sandbox.url).stats()["requests"]
        0
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, method: str, path: str, body: Any = None, **query: Any) -> JSON:
        """Make any call, as the function `control` does with this sandbox's URL.

        Example:
            >>> sandbox.control("GET", "/faults")
            {'faults': []}
        """
        return control(self.url, method, path, body, **query)

    def stats(self) -> JSON:
        """Return the figures of what was requested since the start, the last `reset` or the last `reset_stats`.

        Returns:
            `requests`, `by_route`, `by_status`, `max_in_flight`, `unknown_parameters`, `writes`, `faults`; `since` when
            the first one arrived, in seconds since 1970; `seconds` from then to the last answer, in real time.

        Example:
            >>> sandbox.stats()["by_route"]
            {}
        """
        return self.control("GET", "/stats")

    def reset_stats(self) -> None:
        """Set all figures of `stats` to zero.

        Example:
            >>> sandbox.reset_stats()
        """
        self.control("POST", "/stats/reset")

    def reset(self, **overrides: Any) -> JSON:
        """Go back to the seeded world: no faults, no deliveries, a running clock, all figures at zero.

        Args:
            overrides: Options that differ from those of the start, until the next reset.

        Returns:
            How many records of each kind there are.

        Raises:
            ValueError: An option is unknown or out of range.

        Example:
            >>> sandbox.reset(plan="free", hosts=2)["organizations"]
            2
        """
        return self.control("POST", "/reset", overrides)

    def state(self, full: bool = False) -> JSON:
        """Return what there is.

        Args:
            full: Whether to include `events`, the status of each event by its identifier, at most 10,000.

        Returns:
            How many records of each kind there are, `now`, `canceled_by_api` (events canceled through the API),
            `bookings` (invitees booked through the API), `webhook_subscription_list` and `connection_list`.

        Example:
            >>> sandbox.state()["canceled_by_api"]
            []
        """
        return self.control("GET", "/state", full=int(full))

    # Faults

    def fault(self, kind: str, **options: Any) -> None:
        """Add a fault.

        Args:
            kind: What goes wrong; the kinds are listed in `prefect_calendly.sandbox`.
            options: Which requests it hits (`method`, `route`, `path`, `times`, `skip`, `every`), and the kind's own.

        Raises:
            ValueError: There is no such kind, or it lacks an option.

        Example:
            >>> sandbox.fault("server_error", route="/users/me", times=2)
        """
        self.control("POST", "/faults", {"kind": kind, **options})

    def clear_faults(self) -> None:
        """Remove all faults.

        Example:
            >>> sandbox.clear_faults()
        """
        self.control("DELETE", "/faults")

    # The clock

    def clock(self) -> datetime:
        """Return the time of the sandbox's clock, in UTC.

        Example:
            >>> sandbox.clock().tzinfo
            datetime.timezone.utc
        """
        return parse_time(self.control("GET", "/clock")["now"])

    def set_clock(
        self,
        now: str | datetime | None = None,
        *,
        advance_seconds: float | None = None,
        frozen: bool | None = None,
        speed: float | None = None,
    ) -> datetime:
        """Set, advance, freeze or release the clock, or change its speed; what is None stays as it is.

        Args:
            now: The new time, as ISO 8601 text or datetime; UTC unless it has an offset.
            advance_seconds: Seconds to advance; negative ones go back.
            frozen: Whether the clock stands still.
            speed: Seconds of the clock per real second, above 0 and at most 1,000,000.

        Returns:
            The time of the clock after the change, in UTC.

        Raises:
            ValueError: A value is out of range.

        Example:
            >>> sandbox.set_clock("2025-03-14T09:00:00+01:00", frozen=True).isoformat()
            '2025-03-14T08:00:00+00:00'
        """
        change = {"now": now, "advance_seconds": advance_seconds, "frozen": frozen, "speed": speed}
        given = {name: value for name, value in change.items() if value is not None}
        return parse_time(self.control("POST", "/clock", given)["now"])

    # Bookings

    def add_event(self, start_time: str | datetime | None = None, **members: Any) -> str:
        """Add a scheduled event, as if an invitee had booked it on Calendly's page.

        Args:
            start_time: Its start, as ISO 8601 text or datetime; by default the first free slot from tomorrow on.
            members: As for `POST /_sandbox/events`: `host`, `event_type`, `invitees`, `guests`, `status` and others.

        Returns:
            The URI of the event.

        Raises:
            ValueError: There is no such host or event type, no free slot, or a member is unknown.

        Example:
            >>> uri = sandbox.add_event(invitees=[{"email": "eve@blocked.example", "name": "Eve"}])
            >>> uri.startswith("https://api.calendly.com/scheduled_events/")
            True
        """
        return str(self.control("POST", "/events", {"start_time": start_time, **members})["uri"])

    def burst(self, count: int, **members: Any) -> list[str]:
        """Add many events at once, each with one invitee; hosts and domains take turns.

        Args:
            count: How many, 1 to 100,000.
            members: `domains` of the invitees' addresses (default: example.com), `hosts` (default: all of Acme's),
                `start_time` of the first ones (default: tomorrow).

        Returns:
            The URIs of the invitees, in the order in which they booked.

        Raises:
            ValueError: `count` is out of range, or a member is unknown.

        Example:
            >>> len(sandbox.burst(10, domains=["blocked.example", "example.com"]))
            10
        """
        return list(self.control("POST", "/burst", {"count": count, **members})["invitees"])

    def reschedule_event(self, uuid: str, start_time: str | datetime | None = None) -> str:
        """Let the invitees of an event reschedule it: it is canceled, and they have a new one.

        Args:
            uuid: Identifier of the event.
            start_time: Start of the new event; by default the first free slot from tomorrow on.

        Returns:
            The URI of the new event.

        Raises:
            ValueError: There is no such event, it is canceled, or there is no free slot.

        Example:
            >>> event = sandbox.add_event()
            >>> sandbox.reschedule_event(event.rpartition("/")[2]) != event
            True
        """
        return str(self.control("POST", f"/events/{uuid}/reschedule", {"start_time": start_time})["uri"])

    def cancel_event(self, uuid: str, **members: Any) -> JSON:
        """Cancel an event, but not through the API.

        Args:
            uuid: Identifier of the event.
            members: `by`, `"invitee"` (default) or `"host"`; `invitee`, the address of the only one who cancels
                (default: all of them); `reason`.

        Returns:
            `uri` and `status` of the event.

        Raises:
            ValueError: There is no such event or invitee, or it is canceled already.

        Example:
            >>> event = sandbox.add_event()
            >>> sandbox.cancel_event(event.rpartition("/")[2], by="host", reason="ill")["status"]
            'canceled'
        """
        return self.control("POST", f"/events/{uuid}/cancel", members)

    def mark_no_show(self, uuid: str, **members: Any) -> JSON:
        """Mark the invitees of an event as no-shows.

        Args:
            uuid: Identifier of the event.
            members: `invitee`, the address of the only one who is marked (default: all of them); `undo`, True to
                remove the mark.

        Returns:
            `uri` of the event, and `no_shows`, the URIs of all its marks.

        Raises:
            ValueError: There is no such event or invitee, or they are marked already.

        Example:
            >>> event = sandbox.add_event()
            >>> len(sandbox.mark_no_show(event.rpartition("/")[2])["no_shows"])
            1
        """
        return self.control("POST", f"/events/{uuid}/no_show", members)

    # Users, event types and busy times

    def add_event_type(self, name: str, **members: Any) -> str:
        """Add an event type.

        Args:
            name: Its name.
            members: As for `POST /_sandbox/event_types`: `hosts` (default: Alice), `duration` in minutes (30), `kind`,
                `pooling`, `limit`, `locations`, `questions` and others.

        Returns:
            The URI of the event type.

        Raises:
            ValueError: There is no such host, or a member is unknown.

        Example:
            >>> event_type = sandbox.add_event_type("Workshop", kind="group", limit=10)
        """
        return str(self.control("POST", "/event_types", {"name": name, **members})["uri"])

    def add_user(self, name: str, **members: Any) -> JSON:
        """Add a user with a default schedule and an event type.

        Args:
            name: Their name.
            members: As for `POST /_sandbox/users`: `email`, `timezone` (default: America/New_York), `role` (`user`),
                `organization` (Acme), `rules` of the schedule (Monday to Friday, 9 to 17), `uuid`.

        Returns:
            The URIs `uri`, `organization_membership`, `availability_schedule` and `event_type`.

        Raises:
            ValueError: There is no such organization, or a member is unknown.

        Example:
            >>> una = sandbox.add_user("Una Host", timezone="Asia/Kolkata", role="admin")
        """
        return self.control("POST", "/users", {"name": name, **members})

    def add_busy_time(self, start_time: str | datetime, end_time: str | datetime, **members: Any) -> None:
        """Add a busy time from another calendar of a user.

        Args:
            start_time: Its start, as ISO 8601 text or datetime.
            end_time: Its end.
            members: `user` (default: Alice); `type`, `external` (default) or `reserved`.

        Raises:
            ValueError: There is no such user, or a member is unknown.

        Example:
            >>> sandbox.add_busy_time("2030-03-18T14:00:00Z", "2030-03-18T15:00:00Z")
        """
        self.control("POST", "/busy_times", {"start_time": start_time, "end_time": end_time, **members})

    # Webhooks

    def set_webhook(self, uuid: str, **members: Any) -> JSON:
        """Change a webhook subscription.

        Args:
            uuid: Identifier of the subscription.
            members: `state`, `active` or `disabled`; `retry_started_at`, a time or None.

        Returns:
            The subscription as the API returns it.

        Raises:
            ValueError: There is no such subscription or state.

        Example:
            >>> sandbox.set_webhook("GGGGGGGGGGGGGGGG", state="disabled")["state"]
            'disabled'
        """
        return self.control("POST", f"/webhook_subscriptions/{uuid}", members)

    def deliveries(self, limit: int = 100) -> JSON:
        """Return the figures of webhook deliveries, the settings, and the newest deliveries.

        Args:
            limit: How many deliveries to list, at most 1,000.

        Returns:
            `pending`, `in_flight`, `delivered`, `failed_attempts`, `dropped`, `replayed`, `by_event`, `by_status`,
            `settings` and `deliveries`, the oldest first.

        Example:
            >>> sandbox.deliveries()["pending"]
            0
        """
        return self.control("GET", "/deliveries", limit=limit)

    def wait_for_deliveries(self, timeout: float = 10) -> JSON:
        """Wait until no delivery is pending.

        Args:
            timeout: How long to wait, in real seconds.

        Returns:
            As `deliveries`.

        Raises:
            TimeoutError: Some are still pending.

        Example:
            >>> sandbox.wait_for_deliveries(timeout=1)["pending"]
            0
        """
        found = self.control("GET", "/deliveries", wait=timeout)
        if found["pending"]:
            raise TimeoutError(f"{found['pending']} deliveries are still pending after {timeout:g} s")
        return found

    def set_deliveries(self, **options: Any) -> JSON:
        """Pause, delay, disturb or replay webhook deliveries.

        Args:
            options: As for `POST /_sandbox/deliveries`: `paused`, `at_once`, `delay_seconds`, `duplicate`, `reorder`,
                `drop`, `bad_signature`, `stale`, `replay`.

        Returns:
            As `deliveries`, without a list of them.

        Raises:
            ValueError: An option is unknown or out of range, or there is nothing to replay.

        Example:
            >>> sandbox.set_deliveries(duplicate=2, reorder=0.1)["settings"]["duplicate"]
            2
        """
        return self.control("POST", "/deliveries", options)

    # The gateway's connections

    def set_connection(self, connection_id: str, **members: Any) -> JSON:
        """Change a connection of the gateway, as if the user had logged in, or had withdrawn the permission.

        Args:
            connection_id: Which connection.
            members: `status`, `ACTIVE`, `PENDING` or `FAILED`; `user`, as whom requests are made.

        Returns:
            The connection as the gateway returns it.

        Raises:
            ValueError: There is no such connection, status or user.

        Example:
            >>> sandbox.set_connection("21fd90f9-5935-43cd-b6c8-bde9d915ca80", status="FAILED")["status"]
            'FAILED'
        """
        return self.control("POST", f"/connections/{connection_id}", members)

    def set_login(self, **members: Any) -> JSON:
        """Change when pending connections become active by themselves.

        Args:
            members: `activate_after_gets`, at which GET of the connection (default: 2), `activate_after_seconds` of the
                clock after it was created (default: None); None is never.

        Returns:
            Both settings.

        Example:
            >>> sandbox.set_login(activate_after_gets=None)["activate_after_gets"] is None
            True
        """
        return self.control("POST", "/connections", members)
