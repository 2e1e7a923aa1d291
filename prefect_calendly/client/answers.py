"""What an answer's JSON holds: one resource, or a list of them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prefect_calendly.client.errors import InvalidAnswerError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def parsed(item: Any, model: type[M], method: str, path: str) -> M:
    """Read one resource of an answer.

    Args:
        item: Decoded JSON.
        model: What it should be.
        method: HTTP method of the request.
        path: Path of the request.

    Returns:
        The model.

    Raises:
        InvalidAnswerError: A required member is missing or of the wrong type; it names resource and member.
    """
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        member = ".".join(str(part) for part in first["loc"]) or "resource"
        raise InvalidAnswerError(
            f"The answer's {model.__name__} is unreadable at {member!r}: {first['msg']}",
            resource=model.__name__,
            member=member,
            method=method,
            path=path,
        ) from None


def member_of(body: Any, member: str, kind: type[T], method: str, path: str) -> T:
    """Return a member of an answer; raise InvalidAnswerError if it is not there, or of another kind."""
    value = body.get(member) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise InvalidAnswerError(
            f"The answer has no {member!r}", resource="answer", member=member, method=method, path=path
        )
    return value
