"""Calendly identifiers: a resource is named by its URI, its uuid, or a model that has a `uri`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

CALENDLY_ORIGIN = "https://api.calendly.com"

_UUID = re.compile(r"[A-Za-z0-9_-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9_.~-]+")


@runtime_checkable
class HasUri(Protocol):
    """Anything with a Calendly `uri`, such as the models of this package."""

    @property
    def uri(self) -> str: ...


Reference: TypeAlias = str | HasUri
"""A Calendly URI, a bare uuid, or a model with a `uri`."""


def uuid_of(value: Reference, collection: str, argument: str) -> str:
    """Return the uuid that a reference names, checked so that it can stand in a path.

    Args:
        value: URI, uuid or model.
        collection: What it must be, as in its URI: `users`, `scheduled_events`, …
        argument: The caller's argument, for the error text.

    Returns:
        The uuid: letters, digits, `-` and `_` only.

    Raises:
        ValueError: It is empty, has other characters, or is a URI of something else. The text says what is wanted.

    Example:
        >>> uuid_of("https://api.calendly.com/users/AAAA", "users", "user")
        'AAAA'
    """
    text = value if isinstance(value, str) else getattr(value, "uri", None)
    wanted = f"{argument} must be the URI ({CALENDLY_ORIGIN}/{collection}/…) or uuid of {_noun(collection)}"
    if not isinstance(text, str):
        raise ValueError(f"{wanted}, not {type(value).__name__}")
    prefix = f"{CALENDLY_ORIGIN}/{collection}/"
    uuid = text.removeprefix(prefix)
    if not uuid:
        raise ValueError(f"{wanted}; it is empty")
    if not _UUID.fullmatch(uuid):
        # Only a Calendly URI is shown: anything else might be personal data or a secret in the wrong place.
        if re.fullmatch(rf"{re.escape(CALENDLY_ORIGIN)}/[\w/-]+", text):
            wanted += f"; got {text}"
        elif collection == "users" and "@" in text:
            wanted += (
                ", not an e-mail address: look the user up with "
                "`list_memberships(credentials, organization=…, email=…)`"
            )
        raise ValueError(wanted)
    return uuid


def _noun(collection: str) -> str:
    """Return what an item of a collection is called: "a user", "an event type"."""
    noun = collection.removesuffix("s").replace("_", " ")
    return f"{'an' if noun[:1] in 'aeio' else 'a'} {noun}"  # without u: a user


def uri_of(value: Reference, collection: str, argument: str) -> str:
    """Return the full URI that a reference names.

    Args:
        value: URI, uuid or model.
        collection: What it must be: `users`, `organizations`, …
        argument: The caller's argument, for the error text.

    Returns:
        The URI on `https://api.calendly.com`.

    Raises:
        ValueError: As for `uuid_of`; and for `me`, which is a path and no URI.

    Example:
        >>> uri_of("AAAA", "users", "user")
        'https://api.calendly.com/users/AAAA'
    """
    uuid = uuid_of(value, collection, argument)
    if (collection, uuid) == ("users", "me"):
        raise ValueError(f"{argument} cannot be 'me': give the URI that `get_current_user` returns")
    return f"{CALENDLY_ORIGIN}/{collection}/{uuid}"


def optional_uris(**references: tuple[Reference | None, str]) -> dict[str, str]:
    """Return the URIs of those references that are given: `optional_uris(user=(user, "users"))`."""
    return {
        name: uri_of(value, collection, name) for name, (value, collection) in references.items() if value is not None
    }


def checked_path(path: str) -> str:
    """Check a native Calendly path such as `/users/me`: plain segments, no query, no way out of the host.

    Args:
        path: The path, beginning with `/`; without the gateway's `/calendly` in front.

    Returns:
        The same path.

    Raises:
        ValueError: It is not such a path.
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError("path must begin with '/', such as /users/me (not a whole URL)")
    segments = path[1:].split("/")
    if segments[0] == "calendly":
        raise ValueError("path must be Calendly's own, without the gateway's /calendly in front: /users/me")
    if any(not _SEGMENT.fullmatch(segment) or set(segment) == {"."} for segment in segments):
        raise ValueError(
            "path may hold letters, digits, '-', '_', '.' and '~' between single slashes, no '..', no query: "
            "give query parameters as `params`"
        )
    return path


def filled_path(template: str, uuids: Mapping[str, str]) -> str:
    """Fill checked uuids into a path template such as `/users/{uuid}`."""
    return checked_path(template.format_map(uuids))
