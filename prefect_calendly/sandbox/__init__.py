"""A sandbox gateway: a real HTTP server that behaves as the Maton gateway and Calendly do.

Run it with `python -m prefect_calendly.sandbox` (`--help` lists the options), inside a test with
`with Sandbox(...) as sandbox:` or through the fixture of `prefect_calendly.sandbox.pytest`. It serves

- `/calendly/...`     Calendly through the gateway (`Authorization: Bearer <api key>`, `Maton-Connection`),
- `/connections...`   the gateway's connections,
- `/native/...`       Calendly itself (`Bearer <native token>`), with none of the gateway's rules,
- `/_sandbox/...`     the control surface, below. JSON in, JSON out; a mistake answers 400 `{"error": ...}`,

and delivers webhooks: signed POSTs to the subscriptions that match what happens (`/deliveries`, below).
`python -m prefect_calendly.sandbox book EMAIL` lets something happen; so do `cancel`, `move` and `no-show`.

Control surface (users by URI, identifier or address; event types and organisations by URI or identifier):

    GET    /stats            {requests, by_route, by_status, max_in_flight, unknown_parameters, writes, faults,
                             since, seconds}: when the first request came, in seconds since 1970, and how many
                             passed until the last answer, both in real time
    POST   /stats/reset      all of them to zero
    POST   /reset            the seeded world, no faults, zero stats; body: other options, until the next reset
    GET    /state[?full=1]   counts, canceled_by_api, bookings, webhook_subscription_list, connection_list;
                             full: `events`, {identifier: status}, at most 10,000
    GET    /clock            {now, frozen, speed};  POST: any of {now, advance_seconds, frozen, speed (1)}
    POST   /faults           one fault or a list (below);  DELETE: none any longer;  GET: which there are
    POST   /events           start_time (default: the first free slot from tomorrow on), host or hosts,
                             event_type, duration_minutes, name, status, guests [email], invitees [{email,
                             name, status, timezone, questions_and_answers, uuid}], location {kind, location},
                             created_at, cancellation_reason, uuid -> {uri, invitees: [uri]}
    POST   /burst            count (required), domains [name] and hosts (by turns), start_time: so many bookings
                             of one invitee each -> {invitees: [uri]}
    POST   /events/{uuid}/cancel       by (invitee, or host), invitee (one, by address), reason -> {uri, status}
    POST   /events/{uuid}/reschedule   start_time (default: a free slot): its invitees move it -> as /events
    POST   /events/{uuid}/no_show      invitee (one, by address), undo -> {uri, no_shows: [uri]}
    POST   /event_types      name (required), hosts, duration, kind, pooling, limit, locations, active, team,
                             questions [{name, type, required}], slug, uuid -> {uri}
    POST   /users            name (required), email, timezone, role, organization, rules, uuid
                             -> {uri, organization_membership, availability_schedule, event_type}
    POST   /busy_times       start_time, end_time (required), user, type (external)
    POST   /webhook_subscriptions/{uuid}   {state, retry_started_at}
    GET    /deliveries[?limit=100][&wait=seconds]   counts, settings and the newest deliveries; with `wait`, once
                             none is pending, or after so many real seconds
    POST   /deliveries       any of paused, at_once (20), delay_seconds (0) and, for the next so many (a whole
                             number) or a share of all (0.1; 0 is none): duplicate, reorder, drop, bad_signature,
                             stale; replay (the last so many, or an id as text) -> as GET
    POST   /connections/{connection_id}    {status, user}: the person logs in, or the grant is lost
    POST   /connections      {activate_after_gets (2), activate_after_seconds (null)} of pending connections

A fault is `{"kind": ...}` with any of `method`, `route` (a template such as `/scheduled_events/{uuid}`), `path`
(exact), `times` (1; null: for ever), `skip` (so many matching requests pass first), `every` (each n-th):

    latency (seconds) · unauthorized_gateway, unauthorized_calendly, permission_denied, plan, already_exists
    (message) · insufficient_scope (required_scopes) · not_found · bad_request_without_details ·
    external_calendar · rate_limited (retry_after, reset, shape maton or calendly) · server_error · html_502 ·
    unavailable (retry_after) · redirect (location) · cancellation_reason_quirk · drop_before · drop_after ·
    error_after · reset · truncated_body · malformed_json · wrong_content_type · missing_member (member, item) ·
    extra_member (member, value, item) · enum_value (member, value, item)

Deliveries: `invitee.created`, `invitee.canceled`, `invitee_no_show.created`, `invitee_no_show.deleted`, and
`event_type.created` of the control surface. They go out at once, apart from the answer to whoever caused them, at
most `at_once` per subscription at a time, to https URLs and to http ones of this machine, but never to the names set
aside for examples (example.com, .example, .invalid). What is not answered 2xx within 10 s is repeated after 30 s, 60
s and so on up to every 2 h of the sandbox's clock, for 24 h and not past 24 h after the event; meanwhile
`retry_started_at` is set. 24 h without a success disable the subscription. A signature (`signing_key`) carries the
real time, which is the receiver's. On demand: `duplicate` sends twice; `reorder` holds back behind later ones, at
most half a second; `drop` loses for good; `delay_seconds` are the sandbox's clock's; `bad_signature` and `stale` (ten
minutes old) spoil attempts, which are then repeated as others; `replay` sends the old bytes with the old signature,
once, and changes nothing about the subscription.

Nothing here imports the rest of the package: client and sandbox meet over HTTP only.
"""

from prefect_calendly.sandbox.sandbox import Sandbox

__all__ = ["Sandbox"]
