"""A refusal: an answer that is no success, and the error that fits it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from prefect_calendly.client.errors import (
    AlreadyCanceledError,
    BadRequestError,
    CalendlyError,
    CalendlyTokenError,
    ConflictError,
    ErrorDetail,
    EventInPastError,
    ExternalCalendarError,
    GatewayKeyError,
    InsufficientScopeError,
    InvalidAnswerError,
    NoConnectionError,
    NotFoundError,
    PermissionDeniedError,
    PlanRequiredError,
    RateLimitedError,
    RoleRequiredError,
    ServerError,
    SlotFilledError,
    mask,
)

_MOST_DETAILS: Final = 10


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
    listed = [item for item in raw_details if isinstance(item, dict)] if isinstance(raw_details, list) else []
    details = [
        ErrorDetail(
            message=mask(str(item.get("message") or "invalid")),
            parameter=mask(str(item["parameter"])) if item.get("parameter") else None,
            code=mask(str(item["code"])) if item.get("code") else None,
        )
        for item in listed[:_MOST_DETAILS]
    ]
    if len(listed) > _MOST_DETAILS:
        details.append(ErrorDetail(f"and {len(listed) - _MOST_DETAILS} more"))
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
    body: Any
    try:
        body = json.loads(content)
        title, message, details = _words(body)
    except (ValueError, RecursionError):  # also of a detail so deep that it can be read, and not shown
        body, title, message, details = None, None, None, []
    context: dict[str, Any] = {
        "status": status,
        "title": title,
        "details": details,
        "request_id": request_id,
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
            named = [mask(scope) for scope in scopes[:_MOST_DETAILS] if isinstance(scope, str)]
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
