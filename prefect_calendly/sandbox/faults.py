"""Faults on request: what can go wrong between a client, the gateway and Calendly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from prefect_calendly.sandbox import errors
from prefect_calendly.sandbox.errors import Refusal
from prefect_calendly.sandbox.routing import Answer

JSON = dict[str, Any]

# Answered instead of the endpoint, so that the request has no effect: those `ON_ARRIVAL` before the gateway has checked
# anything, the others after key, connection and limits.
ON_ARRIVAL = (
    "unauthorized_gateway",
    "rate_limited",
    "html_502",
    "unavailable",
    "redirect",
    "drop_before",
    "reset",
)
BEFORE = (
    *ON_ARRIVAL,
    "unauthorized_calendly",
    "insufficient_scope",
    "permission_denied",
    "plan",
    "not_found",
    "already_exists",
    "bad_request_without_details",
    "external_calendar",
    "server_error",
    "cancellation_reason_quirk",
)
# The request has its effect, but its answer is lost, broken or replaced.
AFTER = ("drop_after", "error_after", "truncated_body", "malformed_json", "wrong_content_type")
# The request has its effect, and its answer is late or changed. These combine with each other and with the others.
TWEAKS = ("latency", "missing_member", "extra_member", "enum_value")
KINDS = (*BEFORE, *AFTER, *TWEAKS)
_FIELDS = ("kind", "method", "route", "path", "times", "skip", "every")
_REQUIRED = {"missing_member": ("member",), "enum_value": ("member", "value"), "latency": ("seconds",)}


@dataclass(slots=True)
class Fault:
    """One fault: its kind, which requests it hits, how often, and the options of its kind."""

    kind: str
    method: str | None = None
    route: str | None = None
    path: str | None = None
    times: int | None = 1
    skip: int = 0
    every: int = 1
    options: JSON = field(default_factory=dict)
    seen: int = 0

    @classmethod
    def parse(cls, value: Any) -> Fault:
        """Read a fault as the control surface takes it; raise ValueError if it is none."""
        if not isinstance(value, dict) or value.get("kind") not in KINDS:
            raise ValueError(f"a fault must have a kind, one of {', '.join(KINDS)}")
        options = {name: option for name, option in value.items() if name not in _FIELDS}
        for name in _REQUIRED.get(value["kind"], ()):
            if name not in options:
                raise ValueError(f"a {value['kind']} fault must have {name!r}")
        fault = cls(**{name: value[name] for name in _FIELDS if name in value}, options=options)
        if fault.every < 1 or fault.skip < 0 or (fault.times is not None and fault.times < 1):
            raise ValueError("times and every must be at least 1, skip at least 0")
        return fault

    def fires(self, method: str, template: str, path: str, body: Any) -> bool:
        """Whether it hits this request; matching requests are counted."""
        if self.times == 0 or self.method not in (None, method):
            return False
        if self.route is not None and _shape(self.route) != _shape(template):
            return False
        if self.path is not None and path not in (self.path, f"/calendly{self.path}", f"/native{self.path}"):
            return False
        if self.kind == "cancellation_reason_quirk" and not (
            template.endswith("/cancellation") and isinstance(body, dict) and body.get("reason") is not None
        ):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def _shape(template: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", template)


def pick(faults: list[Fault], method: str, template: str, path: str, body: Any) -> list[Fault]:
    """The faults that hit a request: all tweaks, and at most one of the others."""
    hits: list[Fault] = []
    decided = False
    for fault in faults:
        tweak = fault.kind in TWEAKS
        if (tweak or not decided) and fault.fires(method, template, path, body):
            hits.append(fault)
            decided = decided or not tweak
    return hits


def refusal(fault: Fault) -> Refusal:
    """What a fault answers instead of the endpoint; status 0 where it closes the connection."""
    options = fault.options
    message = {name: value for name, value in options.items() if name == "message"}
    match fault.kind:
        case "unauthorized_gateway":
            return errors.bad_key(**message)
        case "unauthorized_calendly":
            return errors.unauthenticated(**message)
        case "insufficient_scope":
            return errors.calendly(
                403,
                "Insufficient scope",
                "This operation requires the scopes listed in the 'required_scopes' array.",
                required_scopes=options.get("required_scopes", ["scheduled_events:read"]),
            )
        case "permission_denied":
            return errors.denied(**message)
        case "plan":
            return errors.denied(options.get("message", "Please upgrade your Calendly account to Standard"))
        case "not_found":
            return errors.not_found()
        case "already_exists":
            return errors.already_exists(**message)
        case "bad_request_without_details" | "cancellation_reason_quirk":
            return errors.calendly(400, "Invalid Argument", errors.INVALID)
        case "external_calendar":
            return errors.calendly(424, "External Calendar Error", "There is a problem accessing your calendar.")
        case "rate_limited":
            return _rate_limited(options)
        case "server_error" | "error_after":
            return errors.server_error()
        case "html_502":
            page = "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
            return Refusal(502, page, {"content-type": "text/html"})
        case "unavailable":
            return Refusal(503, {"message": "Service Unavailable"}, _retry_after(options))
        case "redirect":
            return Refusal(302, "", {"location": options.get("location", "https://calendly.com/")})
    return Refusal(0, None)


def _retry_after(options: JSON) -> dict[str, str]:
    seconds = options.get("retry_after")
    return {} if seconds is None else {"retry-after": str(seconds)}


def _rate_limited(options: JSON) -> Refusal:
    headers = _retry_after(options)
    if options.get("shape", "calendly") == "maton":
        return Refusal(429, {"message": "Too many requests"}, headers)
    reset = options.get("reset", 60)
    if reset is not None:
        headers |= {
            "x-ratelimit-limit": str(options.get("limit", 500)),
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(reset),
        }
    return Refusal(429, {"title": "Too Many Requests", "message": "Too many requests."}, headers)


def tweak(fault: Fault, answer: Answer) -> None:
    """Remove a member from the resource or the items of an answer, add one, or change its value.

    `member` may be dotted. `item` is the index of the item in a collection; without it, all items change. If the body
    itself has the member, as with `pagination.next_page_token`, that one changes.
    """
    if fault.kind == "latency" or not isinstance(answer.body, dict):
        return
    body = answer.body
    *parents, name = str(fault.options.get("member", "added_without_notice")).split(".")
    items = body.get("collection", body.get("connections"))
    targets: list[Any]
    if [*parents, name][0] in body:
        targets = [body]
    elif isinstance(items, list):
        which = fault.options.get("item")
        targets = items if which is None else items[which : which + 1]
    else:
        targets = [body.get("resource", body.get("connection", body))]
    for target in targets:
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
        if isinstance(target, dict):
            if fault.kind == "missing_member":
                target.pop(name, None)
            else:
                target[name] = fault.options.get("value", {"new": True})
