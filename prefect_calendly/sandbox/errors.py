"""How Calendly and the gateway refuse requests, with their exact statuses, members and texts."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer that ends the handling of a request; `body` is JSON, or text as it is sent."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers or {}


def calendly(status: int, title: str, message: str, **more: Any) -> Refusal:
    """An error as Calendly writes it: `title` and `message`."""
    return Refusal(status, {"title": title, "message": message, **more})


def gateway(status: int, message: str) -> Refusal:
    """An error as the gateway's routes write it."""
    return Refusal(status, {"message": message})


INVALID = "The supplied parameters are invalid."
NO_ACCESS = "You do not have permission to access this resource."
LOW_ROLE = "You do not have permission"
NOT_IN_ORGANIZATION = "This user is not in your organization"


def invalid(*details: tuple[str, str] | tuple[str, str, str], message: str = INVALID) -> Refusal:
    """400 Invalid Argument; a detail is (parameter, message) or (parameter, message, code)."""
    keys = ("parameter", "message", "code")
    return calendly(400, "Invalid Argument", message, details=[dict(zip(keys, d, strict=False)) for d in details])


def denied(message: str = NO_ACCESS) -> Refusal:
    return calendly(403, "Permission Denied", message)


def not_found() -> Refusal:
    return calendly(404, "Resource Not Found", "The server could not find the requested resource.")


def already_exists(message: str = "The resource already exists") -> Refusal:
    return calendly(409, "Already Exists", message)


def unauthenticated(message: str = "The access token is invalid") -> Refusal:
    return calendly(401, "Unauthenticated", message)


def server_error() -> Refusal:
    return calendly(
        500,
        "Internal Server Error",
        "The server encountered an unexpected condition that prevented it from fulfilling the request.",
    )


def bad_key(message: str = "Invalid or missing API key") -> Refusal:
    """401 as the gateway's authentication writes it."""
    return Refusal(401, {"error": {"message": message}})


def unknown_route() -> Refusal:
    """404 as the gateway's web framework writes it."""
    return Refusal(404, {"detail": "Not Found"})


def unprocessable(*problems: tuple[list[str | int], str]) -> Refusal:
    """422 as the gateway's web framework writes it; a problem is (location, message)."""
    return Refusal(422, {"detail": [{"loc": loc, "msg": msg} for loc, msg in problems]})
