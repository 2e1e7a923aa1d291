"""Messages through saved Prefect notification blocks: short, with a link, and never the reason that a flow fails."""

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
from prefect_calendly.runs.markdown import escape_cell
from prefect_calendly.runs.quiet_logs import urls_unlogged

FAILED_KEY: Final = "failed-notification"
_LONGEST_SECONDS: Final = 30


def run_page(flow_run_id: UUID | None = None) -> str | None:
    """Return the address of a flow run's page in the Prefect UI, this one's by default; None where no UI is known."""
    ui, flow_run = PREFECT_UI_URL.value(), flow_run_id or runtime.flow_run.id
    if not ui or not flow_run:
        return None
    # Prefect's own `url_for` leads to the old pages of a server's two UIs; Prefect Cloud has one.
    pages = "" if ui.startswith(PREFECT_CLOUD_UI_URL.value()) else "/v2"
    return f"{ui.rstrip('/')}{pages}/runs/flow-run/{flow_run}"


async def check_notifier(reference: str | None) -> None:
    """Make sure that a notification block is there, before a flow does anything.

    Args:
        reference: Type and name of the block, such as `slack-webhook/ops`; None is fine.

    Raises:
        ValueError: There is no such block, or it is not for notifications.
    """
    if reference is not None:
        await _notifier(reference)


async def _notifier(reference: str) -> NotificationBlock:
    try:
        block: Any = await Block.aload(reference)
    except ValueError:
        raise ValueError(
            f"notify: there is no saved block {reference!r}; make one in the UI (Blocks → +), or leave it empty"
        ) from None
    except UnknownBlockType:
        raise ValueError(
            f"notify: the type of {reference!r} is not known here; install the package it comes from"
        ) from None
    if not isinstance(block, NotificationBlock):
        raise ValueError(f"notify: the block {reference!r} is not for notifications; a slack-webhook, for example, is")
    return block


async def notify(reference: str | None, subject: str, body: str, flow_run_id: UUID | None = None) -> str | None:
    """Send one message through a saved Prefect notification block; a failure is logged, never raised.

    Args:
        reference: Type and name of the block, such as `slack-webhook/ops`; None sends nothing.
        subject: One line.
        body: The message; a link to the run is added.
        flow_run_id: The run that it is about; this one by default.

    Returns:
        What went wrong; None if nothing did.
    """
    if reference is None:
        return None
    page = run_page(flow_run_id)
    try:
        block: Any = await _notifier(reference)
        async with asyncio.timeout(_LONGEST_SECONDS):
            with block.raise_on_failure(), urls_unlogged():  # a webhook's URL is a secret
                sent = getattr(block, "anotify", None)  # newer blocks have both; `notify` alone is async
                await (sent or block.notify)(f"{body}\n{page}" if page else body, subject)
    except Exception as error:  # whatever a notifier does, the work itself is done
        # Not the error's own text: libraries like to quote the URL.
        problem = f"The notification through {reference} failed ({type(error).__name__})."
        run_logger().warning("%s The flow itself goes on.", problem)
        with contextlib.suppress(Exception):
            said = f"> **{escape_cell(subject)}**\n>\n> {escape_cell(body)}\n"
            text = f"# Notification failed\n\n{escape_cell(problem)} This was to be said:\n\n{said}"
            await acreate_markdown_artifact(text, key=FAILED_KEY, description=problem)
        return problem
    return None


@contextlib.asynccontextmanager
async def notify_on_failure(reference: str | None, subject: str, said: str = "") -> AsyncIterator[None]:
    """Send a message if the block fails; the error goes on.

    Args:
        reference: Type and name of the notification block; None sends nothing.
        subject: One line.
        said: What to say before the error.
    """
    try:
        yield
    except Exception as error:
        await notify(reference, subject, mask(f"{said} {type(error).__name__}: {error}".strip()))
        raise
