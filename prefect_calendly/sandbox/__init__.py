"""A sandbox gateway: a real HTTP server that behaves as the Maton gateway and Calendly do.

Run it with `python -m prefect_calendly.sandbox` (`--help` lists the options), inside a test with
`with Sandbox(...) as sandbox:` or through the fixture of `prefect_calendly.sandbox.pytest`. It serves

- `/calendly/...`     Calendly through the gateway (`Authorization: Bearer <api key>`, `Maton-Connection`),
- `/connections...`   the gateway's connections,
- `/native/...`       Calendly itself (`Bearer <native token>`), with none of the gateway's rules,
- `/_sandbox/...`     the control surface, below. JSON in, JSON out; a mistake answers 400 `{"error": ...}`.

Control surface (users by URI, identifier or address; event types and organisations by URI or identifier):

    GET    /stats            {requests, by_route, by_status, max_in_flight, unknown_parameters, writes, faults}
    POST   /stats/reset      all of them to zero
    POST   /reset            the seeded world, no faults, zero stats; body: other options, until the next reset
    GET    /state[?full=1]   counts, canceled_by_api, bookings, webhook_subscription_list, connection_list;
                             full: `events`, {identifier: status}, at most 10,000
    GET    /clock            {now, frozen};  POST: any of {now, advance_seconds, frozen}
    POST   /faults           one fault or a list (below);  DELETE: none any longer;  GET: which there are
    POST   /events           start_time (required), host or hosts, event_type, duration_minutes, name, status,
                             invitees [{email, name, status, timezone, questions_and_answers, uuid}], guests
                             [email], location {kind, location}, created_at, cancellation_reason, uuid
                             -> {uri, invitees: [uri]}
    POST   /events/{uuid}/reschedule   start_time (required): its invitees move it -> as /events
    POST   /event_types      name (required), hosts, duration, kind, pooling, limit, locations, active, team,
                             questions [{name, type, required}], slug, uuid -> {uri}
    POST   /users            name (required), email, timezone, role, organization, rules, uuid
                             -> {uri, organization_membership, availability_schedule, event_type}
    POST   /busy_times       start_time, end_time (required), user, type (external)
    POST   /webhook_subscriptions/{uuid}   {state, retry_started_at}
    POST   /connections/{connection_id}    {status, user}: the person logs in, or the grant is lost
    POST   /connections      {activate_after_gets (2), activate_after_seconds (null)} of pending connections

A fault is `{"kind": ...}` with any of `method`, `route` (a template such as `/scheduled_events/{uuid}`), `path`
(exact), `times` (1; null: for ever), `skip` (so many matching requests pass first), `every` (each n-th):

    latency (seconds) · unauthorized_gateway · unauthorized_calendly · insufficient_scope (required_scopes) ·
    permission_denied, plan (message) · not_found · bad_request_without_details · external_calendar ·
    rate_limited (retry_after, reset, shape maton or calendly) · server_error · html_502 · unavailable
    (retry_after) · redirect (location) · cancellation_reason_quirk · drop_before · drop_after · error_after ·
    reset · truncated_body · malformed_json · wrong_content_type · missing_member (member, item) ·
    extra_member (member, value, item) · enum_value (member, value, item)

Nothing here imports the rest of the package: client and sandbox meet over HTTP only.
"""

from .server import Sandbox

__all__ = ["Sandbox"]
