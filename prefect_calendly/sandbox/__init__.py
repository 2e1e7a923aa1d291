"""A sandbox gateway: a real HTTP server that behaves like the Maton gateway with Calendly behind it.

Start it with `python -m prefect_calendly.sandbox` (`--help` lists the options), in a test with
`with Sandbox(...) as sandbox:`, or with the fixture of `prefect_calendly.sandbox.pytest`. It serves

- `/calendly/...`     Calendly through the gateway (`Authorization: Bearer <api key>`, `Maton-Connection`),
- `/connections...`   the gateway's connections,
- `/native/...`       Calendly itself (`Bearer <native token>`), without the gateway's rules,
- `/_sandbox/...`     the control surface, which is described below,

and delivers webhooks: signed POSTs to the subscriptions. `python -m prefect_calendly.sandbox book EMAIL` makes an
invitee book in a running sandbox; `cancel`, `move` and `no-show` do what they say.

## Control surface

JSON in, JSON out; a mistake is answered with 400 `{"error": ...}`. Users are named by identifier, URI or email
address, event types and organizations by identifier or URI. Times are ISO 8601, UTC unless they have an offset.

    GET    /stats            requests, by_route, by_status, max_in_flight, unknown_parameters, writes, faults;
                             since: when the first request arrived, in seconds since 1970;
                             seconds: from then to the last answer, in real time
    POST   /stats/reset      set all of them to zero
    POST   /reset            back to the seeded world, without faults and deliveries, all figures at zero;
                             body: options that differ until the next reset
    GET    /state[?full=1]   counts, canceled_by_api, bookings, webhook_subscription_list, connection_list;
                             full: also events, {identifier: status}, at most 10,000
    GET    /clock            now, frozen, speed
    POST   /clock            now, advance_seconds, frozen, speed (1: real time)
    GET    /faults           the faults
    POST   /faults           one fault or a list of them, see below
    DELETE /faults           remove them
    POST   /events           start_time (default: the first free slot from tomorrow on), host or hosts, event_type,
                             duration_minutes, name, status, guests [email], invitees [{email, name, status,
                             timezone, questions_and_answers, uuid}], location {kind, location, additional_info},
                             created_at, cancellation_reason, uuid -> uri, invitees [uri]
    POST   /burst            count (required), domains [name] and hosts (both alternating), start_time: this many
                             events of one invitee each -> invitees [uri]
    POST   /events/{uuid}/cancel       by (invitee, or host), invitee (email: only this one), reason -> uri, status
    POST   /events/{uuid}/reschedule   start_time (default: a free slot) -> as /events
    POST   /events/{uuid}/no_show      invitee (email: only this one), undo -> uri, no_shows [uri]
    POST   /event_types      name (required), hosts, duration, kind, pooling, limit, locations, active, team,
                             questions [{name, type, required}], slug, uuid -> uri
    POST   /users            name (required), email, timezone, role, organization, rules, uuid
                             -> uri, organization_membership, availability_schedule, event_type
    POST   /busy_times       start_time, end_time (both required), user, type (external)
    POST   /webhook_subscriptions/{uuid}   state, retry_started_at
    GET    /deliveries[?limit=100][&wait=seconds]   counts, settings and the newest deliveries; with wait, as soon as
                             none is pending, or after this many real seconds
    POST   /deliveries       paused, at_once (20), delay_seconds (0); duplicate, reorder, drop, bad_signature, stale,
                             each the number of deliveries that it hits, from the next on (an integer), or a share of
                             all (a fraction such as 0.1); replay (an integer: the last ones; a string: the id of one)
    POST   /connections/{connection_id}    status, user: the user logs in, or withdraws the permission
    POST   /connections      activate_after_gets (2) and activate_after_seconds (null: never) of pending connections

## Faults

A fault is `{"kind": ...}` with any of `method`, `route` (a template such as `/scheduled_events/{uuid}`), `path`
(exact), `times` (1; null: always), `skip` (how many matching requests pass first), `every` (only each n-th), and what
its kind takes:

    latency (seconds) · unauthorized_gateway, unauthorized_calendly, permission_denied, plan, already_exists
    (message) · insufficient_scope (required_scopes) · not_found · bad_request_without_details ·
    external_calendar · rate_limited (retry_after, reset, shape: maton or calendly) · server_error · html_502 ·
    unavailable (retry_after) · redirect (location) · cancellation_reason_quirk · drop_before · drop_after ·
    error_after · reset · truncated_body · malformed_json · wrong_content_type · missing_member (member, item) ·
    extra_member (member, value, item) · enum_value (member, value, item)

`drop_before` and `reset` close the connection before the request has an effect; `drop_after`, `error_after`,
`truncated_body`, `malformed_json` and `wrong_content_type` spoil the answer after it.

## Webhook deliveries

Events are `invitee.created`, `invitee.canceled`, `invitee_no_show.created`, `invitee_no_show.deleted` and, for event
types that the control surface adds, `event_type.created`. Deliveries go out at once, but never delay the request that
causes them, at most `at_once` per subscription at a time. URLs may be https, or http on this machine; nothing is sent
to domains that are reserved for examples (example.com, .example, .invalid).

A delivery that is not answered with 2xx within 10 s is repeated after 30 s, 60 s and so on up to every 2 h, for 24 h;
one about a booking or a cancellation not longer than 24 h after the event's end. These times are of the sandbox's
clock. Meanwhile `retry_started_at` is set. After 24 h without a success the subscription is disabled. Signatures
(`signing_key`) carry the real time, as the receiver's clock is real.

On request, `duplicate` sends a delivery twice; `reorder` lets later ones overtake it, for at most half a second;
`drop` never sends it; `delay_seconds` are of the sandbox's clock; `bad_signature` and `stale` (ten minutes old) spoil
one attempt; `replay` sends a finished delivery again, once, with the same bytes and signature, and without effect on
the subscription.

The sandbox imports nothing else of the package: client and sandbox meet over HTTP only.
"""

from prefect_calendly.sandbox.sandbox import Sandbox
from prefect_calendly.sandbox.sandbox_control import SandboxControl

__all__ = ["Sandbox", "SandboxControl"]
