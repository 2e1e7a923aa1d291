"""The block: what it refuses, what it finds out, and that nobody sees its key."""

import pickle
import sqlite3
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockTypeCreate
from prefect.testing.cli import invoke_and_assert
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, CONNECTION
from tests.fixtures import credentials_for
from tests.support import database_of_prefect

KEY = "very-secret-key"


class TestStandard(BlockStandardTestSuite):
    """What Prefect wants of every block."""

    @pytest.fixture
    def block(self) -> type[CalendlyCredentials]:
        return CalendlyCredentials

    def test_has_a_valid_image(self, block: type[CalendlyCredentials]) -> None:
        """There is none, for Prefect refuses the only kind that shows without internet."""
        assert block._logo_url is None
        with pytest.raises(ValidationError, match="scheme should be 'http' or 'https'"):
            BlockTypeCreate(name="A", slug="a", logo_url="data:image/png;base64,AAAA")  # type: ignore[arg-type]


def problems(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        CalendlyCredentials(**values)
    return str(caught.value)


@pytest.mark.parametrize("values", [{}, {"api_key": ""}, {"api_key": "  "}])
def test_without_a_key_the_error_names_the_field_and_the_variable(values: dict[str, Any]) -> None:
    text = problems(**values)
    assert "`api_key`" in text
    assert "MATON_API_KEY" in text


@pytest.mark.parametrize("values", [{}, {"api_key": ""}])
def test_the_key_left_empty_comes_from_the_environment(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATON_API_KEY", f" {KEY}\n")
    assert CalendlyCredentials(**values).api_key.get_secret_value() == KEY


@pytest.mark.parametrize("empty", ["missing", "", " "])
def test_urls_left_empty_come_from_the_environment_else_from_the_defaults(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"api_key": KEY}
    if empty != "missing":
        values |= {"gateway_url": empty, "connections_url": empty}
    block = CalendlyCredentials(**values)
    assert (block.gateway_url, block.connections_url) == ("https://gateway.maton.ai/calendly", "https://ctrl.maton.ai")
    monkeypatch.setenv("MATON_GATEWAY_URL", "https://api.maton.ai/calendly/")
    monkeypatch.setenv("MATON_CONNECTIONS_URL", "https://api.maton.ai")
    block = CalendlyCredentials(**values)
    assert (block.gateway_url, block.connections_url) == ("https://api.maton.ai/calendly", "https://api.maton.ai")
    named = CalendlyCredentials(api_key=KEY, gateway_url="http://localhost:1/calendly")
    assert named.gateway_url == "http://localhost:1/calendly"


def test_a_bad_url_in_the_environment_is_refused_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATON_GATEWAY_URL", "http://gateway.example.com")
    assert "gateway_url must begin with https://" in problems(api_key=KEY)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"api_kee": KEY}, "api_kee"),
        ({"conection_id": "x"}, "conection_id"),
        ({"api_key": f"{KEY}\nX-Evil: 1"}, "api_key"),
        ({"api_key": f"{KEY} {KEY}"}, "api_key"),
        ({"api_key": f"{KEY}é"}, "api_key"),
        ({"api_key": 17}, "api_key"),
        ({"connection_id": "a b"}, "connection_id"),
        ({"connection_id": "a\r\nX: 1"}, "connection_id"),
        ({"connection_id": "ä"}, "connection_id"),
        ({"gateway_url": "http://gateway.maton.ai/calendly"}, "gateway_url"),
        ({"gateway_url": f"https://{KEY}@gateway.maton.ai"}, "gateway_url"),
        ({"gateway_url": "gateway.maton.ai"}, "gateway_url"),
        ({"gateway_url": 5}, "gateway_url"),
        ({"connections_url": "http://ctrl.maton.ai"}, "connections_url"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 601}, "timeout_seconds"),
        ({"requests_per_second": 0}, "requests_per_second"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 257}, "max_concurrency"),
    ],
)
def test_a_bad_field_is_named_and_its_value_never_shown(values: dict[str, Any], named: str) -> None:
    text = problems(**{"api_key": KEY, **values})
    assert named in text
    assert KEY not in text


@pytest.mark.parametrize("connection_id", ["", "  ", None])
def test_no_connection_id_leaves_the_choice_to_the_gateway(connection_id: str | None) -> None:
    assert CalendlyCredentials(api_key=KEY, connection_id=connection_id).connection_id is None


def test_the_client_gets_what_the_block_says() -> None:
    client = CalendlyCredentials(api_key=KEY, connection_id="c-1", max_concurrency=3).get_client()
    assert isinstance(client, CalendlyClient)
    assert (client.gateway_url, client.connections_url) == (
        "https://gateway.maton.ai/calendly",
        "https://ctrl.maton.ai",
    )
    assert client.max_concurrency == 3
    assert client._transport._http.headers["Maton-Connection"] == "c-1"
    assert client._transport._http.headers["Authorization"] == f"Bearer {KEY}"
    assert client._transport._http.timeout.read == 30
    assert not client.direct


def test_nobody_sees_the_key() -> None:
    block = CalendlyCredentials(api_key=KEY)
    for shown in (repr(block), str(block), block.model_dump_json(), repr(block.model_dump()), repr(block.get_client())):
        assert KEY not in shown


def test_every_field_has_a_place_in_the_form_and_no_default_comes_from_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MATON_API_KEY", KEY)
    schema = CalendlyCredentials.model_json_schema()
    positions = [field["position"] for field in schema["properties"].values()]
    assert positions == list(range(len(positions)))
    assert schema["required"] == ["timeout_seconds"]  # of which the form has a default; see the schema's own method
    assert KEY not in str(schema)


async def test_a_native_token_works_at_calendly_itself(sandbox: Sandbox) -> None:
    block = credentials_for(sandbox, api_key=sandbox.native_token, gateway_url=sandbox.native_url)
    async with block.get_client() as client:
        answer = await client.request("GET", "/users/me")
    assert answer["resource"]["uri"].endswith(ALICE)


# Inside Prefect


async def test_what_comes_from_the_environment_is_not_stored_but_read_where_the_flow_runs(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATON_API_KEY", "key-of-here")
    monkeypatch.setenv("MATON_GATEWAY_URL", "http://127.0.0.1:8321/calendly")
    here = CalendlyCredentials(connection_id=CONNECTION)
    assert here.api_key.get_secret_value() == "key-of-here"
    await here.asave("from-environment", overwrite=True)
    monkeypatch.setenv("MATON_API_KEY", "key-of-there")
    monkeypatch.delenv("MATON_GATEWAY_URL")
    there = await CalendlyCredentials.aload("from-environment")
    assert there.api_key.get_secret_value() == "key-of-there"
    assert there.gateway_url == "https://gateway.maton.ai/calendly"
    assert there.connection_id == CONNECTION


async def test_saved_and_loaded_it_works_and_the_key_is_nowhere_in_clear(
    prefect_server: None, sandbox: Sandbox
) -> None:
    block = credentials_for(sandbox, api_key="stored-secret-key", connection_id=CONNECTION)
    await block.asave("stored", overwrite=True)
    loaded = await CalendlyCredentials.aload("stored")
    assert loaded.api_key.get_secret_value() == "stored-secret-key"
    assert loaded.gateway_url == sandbox.gateway_url
    assert loaded.connection_id == CONNECTION
    by_slug = await Block.aload("calendly-credentials/stored")
    assert isinstance(by_slug, CalendlyCredentials)
    assert "stored-secret-key" not in repr(loaded)
    async with get_client() as client:
        document = await client.read_block_document_by_name("stored", "calendly-credentials", include_secrets=False)
    assert "stored-secret-key" not in document.model_dump_json()
    files = database_of_prefect()
    assert files
    for file in files:
        assert b"stored-secret-key" not in file.read_bytes()
    (main,) = [file for file in files if file.suffix == ".db"]
    with sqlite3.connect(f"file:{main}?mode=ro", uri=True) as database:
        (count,) = database.execute("select count(*) from block_document where name = 'stored'").fetchone()
    assert count == 1  # the right file was searched


async def test_a_block_saved_without_a_key_takes_the_one_of_where_it_runs(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the form in the Prefect UI saves it: the fields that were left empty are missing or empty."""
    await CalendlyCredentials.aregister_type_and_schema()
    async with get_client() as client:
        from prefect.client.schemas.actions import BlockDocumentCreate

        for name, data in (("missing", {}), ("empty", {"api_key": "", "gateway_url": ""})):
            await client.create_block_document(
                BlockDocumentCreate(
                    name=name,
                    data=data,
                    block_schema_id=CalendlyCredentials._block_schema_id,
                    block_type_id=CalendlyCredentials._block_type_id,
                )
            )
    monkeypatch.setenv("MATON_API_KEY", KEY)
    for name in ("missing", "empty"):
        loaded = await CalendlyCredentials.aload(name)
        assert loaded.api_key.get_secret_value() == KEY
        assert loaded.gateway_url == "https://gateway.maton.ai/calendly"


def test_the_command_of_the_readme_registers_the_block(prefect_server: None) -> None:
    invoke_and_assert(
        ["block", "register", "-m", "prefect_calendly"],
        expected_output_contains=["Successfully registered 1 block", "Calendly Credentials"],
        expected_code=0,
    )


def test_the_slug_is_fixed() -> None:
    assert CalendlyCredentials.get_block_type_slug() == "calendly-credentials"
    assert CalendlyCredentials._block_type_name == "Calendly Credentials"
    assert isinstance(CalendlyCredentials(api_key=SecretStr(KEY)), Block)
    assert pickle.loads(pickle.dumps(CalendlyCredentials(api_key=KEY))).api_key.get_secret_value() == KEY
