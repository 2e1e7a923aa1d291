"""CalendlyCredentials: the block that says who we are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

from prefect.blocks.abstract import CredentialsBlock
from prefect.client.orchestration import PrefectClient
from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    HttpUrl,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from prefect_calendly.about import DOCUMENTATION_URL
from prefect_calendly.client import (
    DEFAULT_CONNECTIONS_URL,
    DEFAULT_GATEWAY_URL,
    CalendlyClient,
    RetryPolicy,
    checked_base_url,
    checked_key,
)
from prefect_calendly.shared_pace import share_of_run

# Where a URL that is left empty comes from: an environment variable, else the default.
_URLS = {
    "gateway_url": ("MATON_GATEWAY_URL", DEFAULT_GATEWAY_URL),
    "connections_url": ("MATON_CONNECTIONS_URL", DEFAULT_CONNECTIONS_URL),
}


_FROM_ENVIRONMENT = {"api_key", *_URLS}


def _is_empty(value: Any) -> bool:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return isinstance(text, str) and not text.strip()


def _as_text_field(schema: dict[str, Any]) -> None:
    """Make Prefect's form show an optional text as a field that may be empty, not as a choice between str and None."""
    del schema["anyOf"], schema["default"]
    schema.update(type="string", position=1)


class CalendlyCredentials(CredentialsBlock):
    """
    Who to be towards Calendly: a key of the Maton gateway, and which of its Calendly connections to use.

    Example:
        Load stored credentials and list the next events:
        ```python
        from prefect import flow
        from prefect_calendly import CalendlyCredentials
        from prefect_calendly.scheduled_events import ScheduledEvent, list_scheduled_events
        from prefect_calendly.users import get_current_user

        @flow
        def next_events() -> list[ScheduledEvent]:
            credentials = CalendlyCredentials.load("BLOCK_NAME")
            user = get_current_user(credentials)
            return list_scheduled_events(credentials, user=user, status="active", limit=10)
        ```
    """

    _block_type_name: ClassVar[str | None] = "Calendly Credentials"
    _block_type_slug: ClassVar[str | None] = "calendly-credentials"
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(DOCUMENTATION_URL)
    # Prefect takes only http and https URLs, which do not show without internet; and Calendly's mark is not ours.
    _logo_url: ClassVar[HttpUrl | None] = None

    retry: ClassVar[RetryPolicy] = RetryPolicy()
    """How often, and after which pauses, the clients of these credentials repeat what is safe to repeat."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        title="API key",
        description=(
            "Maton API key; left empty, the environment variable MATON_API_KEY where the flow runs. With a gateway "
            "URL of https://api.calendly.com: a Calendly personal access token."
        ),
        json_schema_extra={"position": 0},
    )
    connection_id: str | None = Field(
        default=None,
        title="Connection ID",
        description="Which Calendly connection of the gateway to use; left empty, the gateway's default.",
        json_schema_extra=_as_text_field,
    )
    gateway_url: str = Field(
        default="",
        validate_default=True,
        title="Gateway URL",
        description=(
            f"Base URL of the API; left empty, MATON_GATEWAY_URL or {DEFAULT_GATEWAY_URL}. Also works: "
            "https://api.maton.ai/calendly, or https://api.calendly.com with a personal access token."
        ),
        json_schema_extra={"position": 2},
    )
    connections_url: str = Field(
        default="",
        validate_default=True,
        title="Connections URL",
        description=(
            f"Host of the gateway's connections; left empty, MATON_CONNECTIONS_URL or {DEFAULT_CONNECTIONS_URL}."
        ),
        json_schema_extra={"position": 3},
    )
    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=600,
        title="Timeout (seconds)",
        description="Longest wait for connecting, and for each part of an answer.",
        json_schema_extra={"position": 4},
    )
    requests_per_second: float = Field(
        default=10.0,
        gt=0,
        le=10_000,
        title="Requests per second",
        description="Pace of all calls with this key in one process; the gateway allows 10.",
        json_schema_extra={"position": 5},
    )
    max_concurrency: int = Field(
        default=16,
        ge=1,
        le=256,
        title="Requests at once",
        description="How many requests of one task may be under way at the same time.",
        json_schema_extra={"position": 6},
    )

    if TYPE_CHECKING:
        # Prefect's type of `load` is a block or a coroutine. In async code, where it is the latter, use `aload`.
        @classmethod
        def load(cls, name: str, validate: bool = True, client: PrefectClient | None = None) -> Self: ...

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in _FROM_ENVIRONMENT or not _is_empty(value)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Let deployments refer to a saved block: Prefect takes `{"$ref": …}` only where no schema forbids it.

        It checks a deployment against this schema without what is required, and a run against either this or a
        reference, but not both: so other properties are not refused here, and one that always has a value is required.
        """
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema.pop("additionalProperties", None)
        schema["required"] = ["timeout_seconds"]
        return schema

    @model_serializer(mode="wrap")
    def ser_model(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Save what was filled in, not what the environment said here: the flow may run elsewhere, or later."""
        values = super().ser_model(handler, info)
        if info.context and info.context.get("include_secrets"):
            for name in _FROM_ENVIRONMENT - self.model_fields_set:
                values.pop(name, None)
        return values

    @field_validator("api_key")
    @classmethod
    def _has_key(cls, value: SecretStr) -> SecretStr:
        return SecretStr(checked_key(value.get_secret_value() or os.environ.get("MATON_API_KEY", "")))

    @field_validator("connection_id")
    @classmethod
    def _is_connection_id(cls, value: str | None) -> str | None:
        value = (value or "").strip()
        if value and not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in value):
            raise ValueError("connection_id must be the ID of a Maton connection: letters, digits and dashes")
        return value or None

    @field_validator("gateway_url", "connections_url", mode="before")
    @classmethod
    def _is_url(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, str):
            return value
        variable, default = _URLS[info.field_name]
        return checked_base_url(value or os.environ.get(variable, "").strip() or default, info.field_name)

    def get_client(self) -> CalendlyClient:
        """Return an async client of these credentials, to be used with `async with`.

        In a flow or task run it keeps to the pace that processes share: see `SHARED_PACE`.

        Returns:
            A client that has sent nothing yet.

        Example:
            ```python
            async with credentials.get_client() as client:
                answer = await client.request("GET", "/users/me")
            ```
        """
        return CalendlyClient(
            self.api_key.get_secret_value(),
            gateway_url=self.gateway_url,
            connections_url=self.connections_url,
            connection_id=self.connection_id,
            timeout_seconds=self.timeout_seconds,
            requests_per_second=self.requests_per_second,
            max_concurrency=self.max_concurrency,
            retry=self.retry,
            take_share=share_of_run(),
        )
