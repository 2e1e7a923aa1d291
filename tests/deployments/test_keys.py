"""A key is changed without a trace of it, and only if the new one works. `make scale-test` re-encrypts for real."""

import base64
import io

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import keys
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from tests.fixtures import credentials_for


@pytest.fixture
async def block(prefect_server: None, sandbox: Sandbox) -> str:
    """A saved block with a key that is worth nothing any more."""
    await credentials_for(sandbox, api_key="a-revoked-key", timeout_seconds=7).asave("rotated", overwrite=True)
    return "rotated"


async def test_a_key_that_works_is_saved_and_the_rest_of_the_block_stays(block: str, sandbox: Sandbox) -> None:
    said = await keys.save_maton_key(block, sandbox.api_key)
    assert said == "calendly-credentials/rotated has the new key: Alice Johnson"
    saved = await CalendlyCredentials.aload(block)
    assert saved.api_key.get_secret_value() == sandbox.api_key
    assert (saved.timeout_seconds, saved.gateway_url) == (7, sandbox.gateway_url)


@pytest.mark.parametrize(
    ("key", "why"), [("wrong-key", "Invalid or missing API key"), ("", "there is no API key"), ("a key", "blanks")]
)
async def test_a_key_that_does_not_work_is_not_saved(block: str, key: str, why: str) -> None:
    with pytest.raises(keys.RefusedError, match=why) as refused:
        await keys.save_maton_key(block, key)
    assert not key or key not in str(refused.value)
    assert (await CalendlyCredentials.aload(block)).api_key.get_secret_value() == "a-revoked-key"


async def test_a_block_that_a_form_has_saved_without_a_key_gets_one(block: str, sandbox: Sandbox) -> None:
    urls = {"gateway_url": sandbox.gateway_url, "connections_url": sandbox.connections_url}
    async with get_client() as client:
        saved = await client.read_block_document_by_name(block, "calendly-credentials")
        await client.update_block_document(saved.id, BlockDocumentUpdate(data=urls, merge_existing_data=False))
    said = await keys.save_maton_key(block, sandbox.api_key)
    assert said == "calendly-credentials/rotated has the new key: Alice Johnson"
    assert (await CalendlyCredentials.aload(block)).gateway_url == sandbox.gateway_url


async def test_a_block_that_is_not_there_is_made(
    prefect_server: None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATON_GATEWAY_URL", sandbox.gateway_url)
    monkeypatch.setenv("MATON_CONNECTIONS_URL", sandbox.connections_url)
    said = await keys.save_maton_key("made", sandbox.api_key)
    assert said == "calendly-credentials/made was created: Alice Johnson"
    assert (await CalendlyCredentials.aload("made")).api_key.get_secret_value() == sandbox.api_key


def test_without_prefect_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["keys", "maton"])
    monkeypatch.setattr("sys.stdin", io.StringIO("some-key\n"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert keys.main() == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Nothing was changed: Prefect's API does not answer (ConnectError); see PREFECT_API_URL"]


FERNET = base64.urlsafe_b64encode(b"x" * 32).decode()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (None, FERNET, "PREFECT_SERVER_ENCRYPTION_KEY is not set; run this where the API runs, with its environment"),
        (FERNET, "short", "an encryption key is 44 characters: openssl rand -base64 32 | tr '+/' '-_'"),
        (
            FERNET,
            FERNET,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL is not set; run this where the API runs, with its environ",
        ),
    ],
)
def test_blocks_are_reencrypted_only_with_all_that_is_needed(
    old: str | None, new: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    monkeypatch.delenv("PREFECT_SERVER_ENCRYPTION_KEY", raising=False)
    if old:
        monkeypatch.setenv("PREFECT_SERVER_ENCRYPTION_KEY", old)
    monkeypatch.setattr("sys.argv", ["keys", "encryption"])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{new}\n"))
    assert keys.main() == 1
    assert capsys.readouterr().err.startswith(f"Nothing was changed: {why}")
