"""Messages through saved Prefect notification blocks: short, with a link, and never the reason why a flow fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from prefect import runtime
from prefect.artifacts import acreate_markdown_artifact
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block, UnknownBlockType
from prefect.settings import PREFECT_CLOUD_UI_URL, PREFECT_UI_URL

from prefect_calendly.client.errors import mask
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import escape
from prefect_calendly.runs.quiet_logs import urls_unlogged

FAILED_KEY: Final = "failed-notification"


def run_page(flow_run_id: UUID | None = None) -> str | None:
    """Return the URL of a flow run's page in the Prefect UI; None if the UI is not known.

    Args:
        flow_run_id: The flow run; this one by default.
    """
    ui, flow_run = PREFECT_UI_URL.value(), flow_run_id or runtime.flow_run.id
    if not ui or not flow_run:
        return None
    # A server has two UIs, and Prefect's own `url_for` leads to the older one; Prefect Cloud has one.
    pages = "" if ui.startswith(PREFECT_CLOUD_UI_URL.value()) else "/v2"
    return f"{ui.rstrip('/')}{pages}/runs/flow-run/{flow_run}"


async def check_notifier(reference: str | None) -> None:
    """Check that a notification block exists, before a flow does anything.

    Args:
        reference: Type and name of the block, such as `slack-webhook/ops`; None passes.

    Raises:
        ValueError: There is no such block, or it is not a notification block.
    """
    if reference is not None:
        await _notifier(reference)


async def _notifier(reference: str) -> NotificationBlock:
    try:
        block: Any = await Block.aload(reference)
    except ValueError:
        raise ValueError(
            f"notify: there is no saved block {reference!r}; create it in the UI (Blocks → +), or leave the field empty"
        ) from None
    except UnknownBlockType:
        raise ValueError(
            f"notify: the block type of {reference!r} is not known here; install the package that it comes from"
        ) from None
    if not isinstance(block, NotificationBlock):
        raise ValueError(f"notify: the block {reference!r} is not for notifications, as a slack-webhook is")
    return block


async def notify(
    reference: str | None,
    subject: str,
    body: str,
    flow_run_id: UUID | None = None,
    *,
    timeout_seconds: float = 30,
) -> str | None:
    """Send one message through a saved Prefect notification block; a failure is logged, never raised.

    Args:
        reference: Type and name of the block, such as `slack-webhook/ops`; None sends nothing.
        subject: One line.
        body: The message, as plain text: it is escaped, and a link to the flow run is added.
        flow_run_id: The flow run that it is about; this one by default.
        timeout_seconds: When to give up.

    Returns:
        What went wrong; None if nothing did.
    """
    if reference is None:
        return None
    page, subject, body = run_page(flow_run_id), escape(subject), "\n".join(map(escape, body.splitlines()))
    try:
        block: Any = await _notifier(reference)
        async with asyncio.timeout(timeout_seconds):
            with block.raise_on_failure(), urls_unlogged():  # a webhook's URL is a secret
                sent = getattr(block, "anotify", None)  # newer blocks have both; `notify` alone is async
                await (sent or block.notify)(f"{body}\n{page}" if page else body, subject)
    except Exception as error:  # whatever a notifier raises, the work itself is done
        # Without the error's own text, which may quote the URL.
        problem = f"The notification through {reference} failed ({type(error).__name__})."
        run_logger().warning("%s The flow itself goes on.", problem)
        with contextlib.suppress(Exception):
            message = f"> **{subject}**\n>\n> {escape(body)}\n"
            text = f"# Notification failed\n\n{escape(problem)} The message was:\n\n{message}"
            await acreate_markdown_artifact(text, key=FAILED_KEY, description=escape(problem))
        return problem
    return None


@contextlib.asynccontextmanager
async def notify_on_failure(reference: str | None, subject: str, text: str = "") -> AsyncIterator[None]:
    """Send a message if the code inside the block raises an error; the error is raised on.

    Args:
        reference: Type and name of the notification block; None sends nothing.
        subject: One line.
        text: What the message says before the error.

    Example:
        ```python
        async with notify_on_failure("slack-webhook/ops", "The export failed"):
            events = await alist_scheduled_events(credentials, user="AAAAAAAAAAAAAAAA")
        ```
    """
    try:
        yield
    except Exception as error:
        await notify(reference, subject, mask(f"{text} {type(error).__name__}: {error}".strip()))
        raise
