"""A saved block is checked in the run, so that one that cannot be used is explained too."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentCreate

from flows.check_credentials import check_credentials
from prefect_calendly import CalendlyCredentials
from prefect_calendly.account_page import ARTIFACT_KEY, page
from prefect_calendly.check import AccountCheck, CredentialsUnusableError, FlowCheck
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import CONNECTION
from prefect_calendly.saved_credentials import BlockMissingError, BlockUnusableError, aload_credentials
from tests.fixtures import credentials_for
from tests.inline import Inline

KEY = "very-secret-key"


async def saved_by_a_form(name: str, **data: Any) -> None:
    """Save a block as the forms of Prefect's UI do: nothing looks at the values."""
    await CalendlyCredentials.aregister_type_and_schema()
    async with get_client() as client:
        kind = await client.read_block_type_by_slug("calendly-credentials")
        schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
        assert schema is not None
        await client.create_block_document(
            BlockDocumentCreate(name=name, data=data, block_type_id=kind.id, block_schema_id=schema.id)
        )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("no-url", {"api_key": KEY, "gateway_url": "not a url"}, "gateway_url must be a plain URL such as https://"),
        ("no-key", {}, "there is no API key: fill in `api_key`, or set the environment variable MATON_API_KEY"),
        ("no-number", {"api_key": KEY, "timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0"),
    ],
)
async def test_a_block_that_cannot_be_loaded_says_which_value_is_wrong(
    prefect_server: None, name: str, data: dict[str, Any], said: str
) -> None:
    await saved_by_a_form(name, **data)
    with pytest.raises(BlockUnusableError) as refused:
        await aload_credentials(f"calendly-credentials/{name}")
    assert not isinstance(refused.value, BlockMissingError)
    assert f"the block calendly-credentials/{name} cannot be used: {said}" in str(refused.value)
    assert str(refused.value).endswith("Correct it in Prefect's UI (Blocks → Edit).")
    assert KEY not in str(refused.value)


async def test_a_block_that_is_not_there_fails_in_the_run_with_what_to_do(inline: Inline) -> None:
    with pytest.raises(CredentialsUnusableError, match=r"no block calendly-credentials/none\. Save one in its UI"):
        await check_credentials("none")
    assert inline.artifact(ARTIFACT_KEY).startswith("# The credentials none do not work\n")
    assert "Save one in its UI" in inline.artifact(ARTIFACT_KEY)


async def test_a_key_that_does_not_work_is_explained(inline: Inline, sandbox: Sandbox) -> None:
    credentials_for(sandbox, api_key=KEY).save("refused")
    with pytest.raises(CredentialsUnusableError, match="Invalid or missing API key"):
        await check_credentials("refused")
    text = inline.artifact(ARTIFACT_KEY)
    assert "do not work" in text
    assert KEY not in text


async def test_the_page_says_whose_credentials_they_are_and_what_the_flows_lack(
    inline: Inline, sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    credentials.save("main")
    account = await check_credentials("main")
    assert account.complete
    text = inline.artifact(ARTIFACT_KEY)
    for said in ("# The credentials main work\n", "Alice Johnson", "| Role | admin |", "booking | yes | yes |"):
        assert said in text
    assert "What is missing" not in text

    user = sandbox.add_user("Uma User", email="uma@example.com", role="user")
    sandbox.set_connection(CONNECTION, user=user["uri"])
    assert not (await check_credentials("main")).complete
    text = inline.artifact(ARTIFACT_KEY)
    for said in ("work, but not for every flow", "| Role | user |", "booking | yes | no |", "takes an owner or admin"):
        assert said in text


def test_what_others_have_named_is_text_on_the_page() -> None:
    hostile = "![x](https://evil.example/p.png)<b>|</b>"
    flow = FlowCheck(flow="poll_bookings", user_scope=True, organization_scope=False, lacks=[hostile])
    text = page(AccountCheck(ok=True, user_name=hostile, organization_name=hostile, flows=[flow]), hostile)
    for markup in ("](", "<b>", "://"):
        assert markup not in text
