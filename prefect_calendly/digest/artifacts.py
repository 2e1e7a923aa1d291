"""The artifacts of a digest: their keys, publishing them, and comparing with the ones of last time."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from prefect.artifacts import Artifact, acreate_markdown_artifact, acreate_table_artifact

from prefect_calendly.client import RequestMeter
from prefect_calendly.digest.changes import Changes, compare
from prefect_calendly.digest.model import Digest
from prefect_calendly.digest.page import digest_markdown, headline
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.digest.table import open_slots_of_table, table_rows
from prefect_calendly.runs.markdown import pluralize

KEY_PREFIX: Final = "availability-digest-"
PROGRESS_KEY: Final = f"{KEY_PREFIX}progress"

_DESCRIPTION: Final = "Who can be booked when: capacity per half-day, next open slots, changes."


class DigestUnreadableError(Exception):
    """Nothing of any host could be read: the digest has no open slots because of failures."""


def artifact_key(account: str, request: DigestRequest) -> str:
    """Return the key of a digest's page: the same for every run of the same request by the same user.

    Args:
        account: URI of the current user.
        request: The request. A first day is part of the key; without one, the digest moves on with the calendar.

    Returns:
        The key of the markdown artifact.

    Example:
        >>> artifact_key("https://api.calendly.com/users/AAAA", DigestRequest())
        'availability-digest-12c3c3e0c260'
    """
    identity = [account, request.scope, sorted(set(request.hosts)), request.days, request.timezone]
    identity += [sorted(set(request.event_types)), str(request.first_day)]
    return KEY_PREFIX + hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def table_key(key: str) -> str:
    """Return the key of the table artifact that belongs to a page."""
    return f"{key}-table"


async def changes_since_last(digest: Digest, key: str) -> Changes | None:
    """Compare a digest with the latest table artifact of the same key.

    Args:
        digest: The new digest.
        key: Key of its page.

    Returns:
        The changes; None for the first digest.
    """
    previous = await Artifact.aget(table_key(key))
    if previous is None or previous.created is None:
        return None
    return compare(digest, open_slots_of_table(previous.data), previous.created)


async def publish_page(digest: Digest, changes: Changes | None, key: str, meter: RequestMeter, seconds: float) -> None:
    """Publish the page of a digest as a markdown artifact, with its problems if there are any.

    Args:
        digest: The digest.
        changes: What changed; None for the first digest.
        key: Key of the artifact.
        meter: The requests that it took.
        seconds: How long it took.

    Raises:
        DigestUnreadableError: Nothing of any host could be read. The page is published, and says why.
    """
    page = digest_markdown(digest, changes, table_key(key), meter, seconds)
    await acreate_markdown_artifact(page, key=key, description=_DESCRIPTION)
    if digest.is_unreadable:
        raise DigestUnreadableError(
            f"No open slots could be read: {pluralize(len(digest.problems), 'problem')}, the first: "
            f"{digest.problems[0].reason} The artifact {key} lists all of them."
        )


async def publish_table(digest: Digest, key: str) -> None:
    """Publish the table of a digest, which the next digest is compared with.

    Args:
        digest: The digest.
        key: Key of its page.
    """
    await acreate_table_artifact(table_rows(digest), key=table_key(key), description=headline(digest))
