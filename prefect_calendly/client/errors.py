"""The errors: one class for each thing that a caller can react to.

Every error has what the server said (status, title, message, details, request ID), what was requested (method and
path, never the query, a header or a body), and a hint what to do. E-mail addresses in the server's words are masked,
because error texts end up in logs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefect_calendly.client.secret import hide_secrets

_DOMAIN = r"([\w-]+(?:\.[\w-]+)+)"
_LETTER = r"[^\s@<>\"(),;:=&]"
# Possessive, and from the start of a word only: a long text without any address takes no longer than a short one.
_EMAIL = re.compile(rf"(?:\"[^\"@]+\"|(?<!{_LETTER}){_LETTER}++)@{_DOMAIN}")
_EMAIL_IN_URL = re.compile(rf"(?:(?<!{_LETTER})|(?<=%40))(?:(?!%40){_LETTER})++%40{_DOMAIN}")
_SECRET = re.compile(r"(session_token\W{1,4}|Bearer\s+)[^\s\"'&]+", re.IGNORECASE)
_LONGEST_TEXT = 500
# Control characters and blanks, which are dropped, may be many.
_LONGEST_READ = 20 * _LONGEST_TEXT
# At the end of what is read, half an address would not be known as one, nor half a key, with six letters for each.
_LONGEST_HALF = 6_000


def printable(text: str) -> str:
    """Put a text on one line, without characters that act on a terminal or a log: control, format and broken ones.

    Example:
        >>> printable("two\\nlines\\x1b[2J")
        'two lines[2J'
    """
    if not text.isprintable():
        text = "".join(letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C")
    return " ".join(text.split())


def mask(text: str) -> str:
    """Hide the local part of e-mail addresses, keys and session tokens in a text; shorten it to 500 characters.

    Example:
        >>> mask("bob.smith@example.com has already been invited")
        '***@example.com has already been invited'
    """
    masked = hide_secrets(printable(text[:_LONGEST_READ]))
    masked = _EMAIL_IN_URL.sub(r"***@\1", _EMAIL.sub(r"***@\1", masked))
    masked = _SECRET.sub(r"\1***", masked)
    if len(text) > _LONGEST_READ:
        masked = masked[:-_LONGEST_HALF] + "…"
    return masked if len(masked) <= _LONGEST_TEXT else masked[: _LONGEST_TEXT - 1] + "…"


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
        message = hide_secrets(message)
        super().__init__(message)
        self.message = message
        self.status = status
        self.title = title
        self.details = tuple(details)
        self.request_id = mask(request_id) if request_id else None
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
            text += f" [{'; '.join(map(str, self.details))}]"
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
