"""Say whether saved credentials work, whose they are, which flows they can run, and what to do about the rest."""

from __future__ import annotations

from prefect_calendly.account_page import publish_account
from prefect_calendly.check import AccountCheck, CredentialsUnusableError, acheck_block
from prefect_calendly.runs.flow import calendly_flow


@calendly_flow(flow_run_name="check of the block {block}")
async def check_credentials(block: str = "main") -> AccountCheck:
    """Say whether saved credentials work, and leave a page about it.

    The page says which gateway, connection, user, organization, role and plan they belong to, and which flows they can
    run. The block is loaded in the run, so that one that cannot be used is explained too. It only reads.

    Args:
        block: Name of the Calendly Credentials block to check.

    Returns:
        What was found out.

    Raises:
        CredentialsUnusableError: The block cannot be used, or its key does not work; the page says what to do.
    """
    account = await acheck_block(block)
    await publish_account(account, block)
    if not account.ok:
        raise CredentialsUnusableError(account)
    return account
