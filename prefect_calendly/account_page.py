"""What credentials can do, for a person to read: facts, which `prefect-calendly check` prints, and an artifact."""

from __future__ import annotations

from typing import Final

from prefect.artifacts import acreate_markdown_artifact

from prefect_calendly.check import AccountCheck
from prefect_calendly.runs.markdown import escape, markdown_table

ARTIFACT_KEY: Final = "check-credentials"
SAYS: Final = {True: "yes", False: "no", None: "not known"}
"""Whether a flow can run."""


def facts(account: AccountCheck) -> list[tuple[str, str]]:
    """Return what is known about credentials, each with its name."""
    unknown = "not known"
    found = [("Gateway", account.gateway_url)] if account.gateway_url else []
    if account.connection_id or account.ok:
        found.append(("Connection", account.connection_id or unknown))
    if account.ok:
        plan = f"{account.plan} ({account.stage})" if account.plan and account.stage else account.plan or unknown
        webhooks = {True: "with webhooks", False: "without webhooks", None: "whether it has webhooks is not known"}
        found += [
            ("Credentials", "work"),
            ("User", f"{account.user_name} ({account.user_uri})"),
            ("Organization", f"{account.organization_name or unknown} ({account.organization_uri})"),
            ("Role", account.role or unknown),
            ("Plan", f"{plan}, {webhooks[account.webhooks]}"),
        ]
    else:
        found.append(("Credentials", "do not work"))
    if account.requests_left is not None:
        found.append(("Rate limit", f"{account.requests_left} of {account.request_limit} requests left this minute"))
    if account.problem:
        found.append(("Problem", account.problem))
    if account.hint and account.hint not in (account.problem or ""):
        found.append(("What to do", account.hint))
    return found


def lacking(account: AccountCheck) -> dict[str, list[str]]:
    """Return what credentials lack, each with the flows that need it."""
    lacks: dict[str, list[str]] = {}
    for flow in account.flows:
        for lack in flow.lacks:
            lacks.setdefault(lack, []).append(flow.flow)
    return lacks


def page(account: AccountCheck, block: str) -> str:
    """Return the artifact about a saved block.

    Args:
        account: What was found out.
        block: Name of the block.
    """
    state = "work" if account.complete else "work, but not for every flow" if account.ok else "do not work"
    parts = [f"# The credentials {escape(block)} {state}", markdown_table(("", ""), facts(account), 30)]
    if account.flows:
        rows = [(each.flow, SAYS[each.user_scope], SAYS[each.organization_scope]) for each in account.flows]
        parts += ["## Flows", markdown_table(("flow", "for the user", "for the organization"), rows, 30)]
    if lacks := lacking(account):
        needed = [(f"These credentials {lack}", ", ".join(flows)) for lack, flows in lacks.items()]
        parts += ["## What is missing", markdown_table(("what", "needed by"), needed, 30)]
    if account.ok:
        parts.append("Permissions to write show only when something is written.")
    return "\n\n".join(parts) + "\n"


async def publish_account(account: AccountCheck, block: str) -> None:
    """Leave the artifact about a saved block.

    Args:
        account: What was found out.
        block: Name of the block.

    Example:
        ```python
        await publish_account(await acheck_block("main"), "main")
        ```
    """
    description = f"What the block calendly-credentials/{escape(block)} can do"
    await acreate_markdown_artifact(page(account, block), key=ARTIFACT_KEY, description=description)
