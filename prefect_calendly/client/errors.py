"""The errors: one class for each thing that a caller can react to.

Every error has what the server said (status, title, message, details, request ID), what was requested (method and
path, never the query, a header or a body), and a hint what to do. E-mail addresses in the server's words are masked,
because error texts end up in logs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_EMAIL = re.compile(r"(?:\"[^\"@]+\"|[^\s@<>\"(),;:=&]{1,254})(?:@|%40)([\w-]+(?:\.[\w-]+)+)", re.IGNORECASE)
_SECRET = re.compile(r"(session_token\W{1,4}|Bearer\s+)[^\s\"'&]+", re.IGNORECASE)
_LONGEST_TEXT = 500
_MOST_DETAILS = 10


def printable(text: str) -> str:
    """Put a text on one line, without characters that act on a terminal or a log: control, format and broken ones.

    Example:
        >>> printable("two\\nlines\\x1b[2J")
        'two lines[2J'
    """
    kept = (letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C")
    return " ".join("".join(kept).split())


def mask(text: str) -> str:
    """Hide the local part of e-mail addresses, bearer keys and session tokens in a text; shorten it to 500 characters.

    Example:
        >>> mask("bob.smith@example.com has already been invited")
        '***@example.com has already been invited'
    """
    cut = text[: 10 * _LONGEST_TEXT]
    if len(cut) < len(text):  # not within an address
        cut = re.sub(r"\S{1,320}$", "…", cut)
    text = printable(cut)
    text = _SECRET.sub(r"\1***", _EMAIL.sub(r"***@\1", text))
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One entry of the `details` of a Calendly error."""

    message: str
    parameter: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}" if self.parameter else self.message


class CalendlyError(Exception):
    """A call of Calendly or of the gateway failed; the base of all errors of this package."""

    hint: str = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        title: str | None = None,
        details: Iterable[ErrorDetail] = (),
        request_id: str | None = None,
        method: str | None = None,
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.title = title
        self.details = tuple(details)
        self.request_id = request_id
        self.method = method
        self.path = path
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        return f"{self.reason}. {self.hint}" if self.hint else self.reason

    @property
    def reason(self) -> str:
        """The whole text without the hint."""
        text = self.message
        if self.title and self.title != self.message:
            text = f"{self.title}: {text}"
        if self.details:
            shown = [str(detail) for detail in self.details[:_MOST_DETAILS]]
            if len(self.details) > _MOST_DETAILS:
                shown.append(f"and {len(self.details) - _MOST_DETAILS} more")
            text += f" [{'; '.join(shown)}]"
        where = " ".join(str(part) for part in (self.status, self.method, self.path) if part)
        if self.request_id:
            where = f"{where}, request {self.request_id}" if where else f"request {self.request_id}"
        if where:
            text += f" ({where})"
        return text


class NetworkError(CalendlyError):
    """The gateway could not be reached, or the connection broke before the whole answer had come.

    `maybe_sent` says whether the request may have taken effect nevertheless.
    """

    hint = "Check the network and the gateway's address; reading calls were already repeated."

    def __init__(self, message: str, *, maybe_sent: bool = True, **context: Any) -> None:
        super().__init__(message, **context)
        self.maybe_sent = maybe_sent


class InvalidAnswerError(CalendlyError):
    """The answer is not what Calendly documents: HTML, truncated JSON, a redirect, a missing member.

    For a missing member, `resource` and `member` name it.
    """

    hint = "Usually a passing fault of the gateway; if it stays, report it with the request id."

    def __init__(self, message: str, *, resource: str | None = None, member: str | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.resource = resource
        self.member = member


class BadRequestError(CalendlyError):
    """400, 412 or 422: the request was refused as malformed; `details` say which parameter."""

    hint = "Correct the parameters named here; the same request will fail again."


class NoConnectionError(BadRequestError):
    """400 of the gateway: there is no usable Calendly connection behind this key."""

    hint = (
        "Make a Calendly connection (`create_connection`, then open its URL), or check `connection_id` in the "
        "credentials block."
    )


class SlotFilledError(BadRequestError):
    """400 `already_filled` or 409 on a booking: somebody else has that start time, or it never was one."""

    hint = "Choose another start time from `list_available_times`."


class AuthenticationError(CalendlyError):
    """401: a key or token was refused."""


class GatewayKeyError(AuthenticationError):
    """401 of the gateway: the Maton key is missing, wrong or expired."""

    hint = "Check `api_key` in the credentials block, or the environment variable MATON_API_KEY."


class CalendlyTokenError(AuthenticationError):
    """401 of Calendly: the gateway's key is fine, the Calendly token behind it is not."""

    hint = (
        "The Calendly authorization was revoked or has expired: make a new connection and delete the old one "
        "(with a personal access token: make a new token)."
    )


class PermissionDeniedError(CalendlyError):
    """403: understood and refused."""

    hint = "This Calendly user may not do that; check whose resource it is."


class InsufficientScopeError(PermissionDeniedError):
    """403: the Calendly authorization lacks a scope; `required_scopes` names what is needed."""

    hint = "Make a new connection (or token) that grants the scopes named here."

    def __init__(self, message: str, *, required_scopes: Iterable[str] = (), **context: Any) -> None:
        self.required_scopes = tuple(required_scopes)
        if self.required_scopes:
            message = f"{message.rstrip('.')}: {', '.join(self.required_scopes)}"
        super().__init__(message, **context)


class PlanRequiredError(PermissionDeniedError):
    """403: the Calendly plan does not include this."""

    hint = "Upgrade the Calendly plan, or do without: webhooks can be replaced by polling, bookings cannot."


class RoleRequiredError(PermissionDeniedError):
    """403: the Calendly user's role in the organization is too low, or the resource is another user's."""

    hint = "Use a connection of an organization owner or admin, or ask only for the user's own resources."


class AlreadyCanceledError(PermissionDeniedError):
    """403 `Event is already canceled`."""

    hint = "Nothing is left to do."


class EventInPastError(PermissionDeniedError):
    """403 `Event in the past`: an event that has begun cannot be canceled."""

    hint = "Only future events can be canceled."


class NotFoundError(CalendlyError):
    """404: no such resource, or no such path."""

    hint = "Check the identifier, and that it belongs to the account of this connection."


class ConflictError(CalendlyError):
    """409: it exists already."""

    hint = "Look the existing resource up; nothing was made."


class ExternalCalendarError(CalendlyError):
    """424: Calendly cannot read the user's connected calendar."""

    hint = "The user should reconnect the calendar in Calendly (Availability, Calendar settings)."


class RateLimitedError(CalendlyError):
    """429: too many requests; `retry_after_seconds` is how long to wait, or None if the server did not say."""

    hint = "Wait, lower `requests_per_second` in the credentials block, or spread the work."

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **context: Any) -> None:
        if retry_after_seconds is not None:
            message = f"{message.rstrip('.')}; wait {retry_after_seconds:g} s"
        super().__init__(message, **context)
        self.retry_after_seconds = retry_after_seconds


class ServerError(CalendlyError):
    """5xx: the gateway or Calendly failed."""

    hint = (
        "Try again later. A 500 that stays is often a stale authorization: make a new connection and delete the "
        "old one."
    )


class UnconfirmedWriteError(CalendlyError):
    """A write was sent, its answer was lost, and its effect was not found: it may have happened or not."""

    hint = "Look at the calendar before you repeat it."


class ConnectionFailedError(CalendlyError):
    """A new Maton connection ended as FAILED."""

    hint = "Create a new connection and authorize it again."


class ConnectionPendingError(CalendlyError):
    """A Maton connection was not authorized in time."""

    hint = "Open the connection's URL in a browser, finish the authorization, and wait again."


def _words(body: Any) -> tuple[str | None, str | None, list[ErrorDetail]]:
    """Read title, message and details from any of the four body shapes of Calendly and the gateway."""
    if not isinstance(body, dict):
        return None, None, []
    title = body["title"] if isinstance(body.get("title"), str) else None
    message = body.get("message")
    if not isinstance(message, str) and isinstance(body.get("error"), dict):
        message = body["error"].get("message")
    detail = body.get("detail")
    raw_details = body.get("details")
    if not isinstance(message, str) and isinstance(detail, str):
        message = detail
    elif raw_details is None and isinstance(detail, list):  # the gateway's framework: [{"loc": […], "msg": …}]
        raw_details = [
            {"parameter": ".".join(map(str, loc)) if isinstance(loc, list) else loc, "message": item.get("msg")}
            for item in detail
            if isinstance(item, dict)
            for loc in [item.get("loc")]
        ]
    details = [
        ErrorDetail(
            message=mask(str(item.get("message") or "invalid")),
            parameter=mask(str(item["parameter"])) if item.get("parameter") else None,
            code=mask(str(item["code"])) if item.get("code") else None,
        )
        for item in (raw_details if isinstance(raw_details, list) else ())
        if isinstance(item, dict)
    ]
    return (
        mask(title) if title else None,
        mask(message) if isinstance(message, str) else None,
        details,
    )


# The gateway's own wording is not documented; a connection that broke is not one that is missing.
_NO_CONNECTION = re.compile(r"^(?!.*(reset|refused|timed|timeout|closed|aborted|lost)).*connection", re.IGNORECASE)

_REASONS_OF_403 = (
    ("already canceled", AlreadyCanceledError),
    ("event in the past", EventInPastError),
    ("upgrade", PlanRequiredError),
    ("paid calendly", PlanRequiredError),
    ("required features are not enabled", PlanRequiredError),
    ("insufficient scope", InsufficientScopeError),
    ("permission", RoleRequiredError),
    ("not in your organization", RoleRequiredError),
    ("also specify organization", RoleRequiredError),
    ("not allowed to", RoleRequiredError),
)


def error_for_answer(
    status: int,
    content: bytes,
    *,
    method: str,
    path: str,
    request_id: str | None = None,
    retry_after_seconds: float | None = None,
) -> CalendlyError:
    """Turn an unsuccessful answer into the fitting error.

    Args:
        status: HTTP status, 300 or above.
        content: The raw body; read, never quoted whole.
        method: HTTP method of the request.
        path: Native Calendly path of the request, without query.
        request_id: What the gateway calls this request.
        retry_after_seconds: Seconds to wait, if the answer's headers said so.

    Returns:
        The error to raise.
    """
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    title, message, details = _words(body)
    context: dict[str, Any] = {
        "status": status,
        "title": title,
        "details": details,
        "request_id": mask(request_id) if request_id else None,
        "method": method,
        "path": path,
    }
    text = message or title or f"The server answered {status} without saying why"
    if status < 400:
        return InvalidAnswerError(
            f"A redirect ({status}) was refused: the key goes to the configured hosts only", **context
        )
    if status == 401:
        from_calendly = isinstance(body, dict) and "title" in body
        return (CalendlyTokenError if from_calendly else GatewayKeyError)(text, **context)
    if status == 403:
        scopes = body.get("required_scopes") if isinstance(body, dict) else None
        if isinstance(scopes, list):
            named = [mask(str(scope)) for scope in scopes[:_MOST_DETAILS]]
            return InsufficientScopeError(text, required_scopes=named, **context)
        said = f"{title} {message}".lower().replace("permission denied", "")
        kind = next((kind for words, kind in _REASONS_OF_403 if words in said), PermissionDeniedError)
        return kind(text, **context)
    books = method == "POST" and path.endswith("/invitees")
    if any(detail.code == "already_filled" for detail in details) or (status == 409 and books):
        return SlotFilledError(text, **context)
    if status in (400, 412, 422):
        if title is None and _NO_CONNECTION.search(text):
            return NoConnectionError(text, **context)
        return BadRequestError(text, **context)
    if status == 429:
        return RateLimitedError(text, retry_after_seconds=retry_after_seconds, **context)
    if status >= 500:
        return ServerError(text, **context)
    if status == 404 and isinstance(body, dict) and body.keys() == {"detail"}:  # the gateway's router
        context["hint"] = (
            "The gateway knows no such path: `gateway_url` should end in /calendly, and `connections_url` have no path."
        )
    simple = {404: NotFoundError, 409: ConflictError, 424: ExternalCalendarError}
    return simple.get(status, CalendlyError)(text, **context)
