"""The check loads the credentials: Prefect's forms save them unchecked, and a run says nothing about what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate

from deployments.check import server
from deployments.files import EXAMPLE_VALUES, FILE, VALUES
from prefect_calendly.sandbox import Sandbox
from tests.fixtures import credentials_for

pytestmark = pytest.mark.usefixtures("prefect_server")


async def save_unchecked(name: str, **data: Any) -> None:
    """Save the values of a block as Prefect's forms do."""
    async with get_client() as client:
        block = await client.read_block_document_by_name(name, "calendly-credentials")
        await client.update_block_document(block.id, BlockDocumentUpdate(data=data, merge_existing_data=False))


async def test_a_block_is_loaded_and_only_a_sandbox_may_have_placeholders(tmp_path: Path, sandbox: Sandbox) -> None:
    file = tmp_path / "prefect.yaml"
    named = {"block_document_slug": "calendly-credentials/for-the-check"}
    shipped = yaml.safe_load(FILE.read_text().replace(VALUES, EXAMPLE_VALUES))
    for each in shipped["deployments"]:
        if "credentials" in each.get("parameters", {}):
            each["parameters"]["credentials"] = {"$ref": named}
    file.write_text(yaml.safe_dump(shipped))
    await credentials_for(sandbox).asave("for-the-check", overwrite=True)
    assert await server.problems(file, pools=False) == []

    await save_unchecked("for-the-check", api_key="a-key")
    (problem,) = await server.problems(file, pools=False)
    assert "hooks.example.com is a placeholder" in problem

    await save_unchecked("for-the-check", api_key="a-key", gateway_url="not a url")
    (problem,) = await server.problems(file, pools=False)
    assert problem.startswith(
        "the block calendly-credentials/for-the-check cannot be used: gateway_url must be a plain"
    )
    assert "a-key" not in problem
