"""Everything that can go wrong at the sandbox: what it is to a caller, whether it is repeated, what has happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import (
    BadRequestError,
    CalendlyError,
    CalendlyTokenError,
    ConflictError,
    EventInPastError,
    ExternalCalendarError,
    GatewayKeyError,
    InsufficientScopeError,
    InvalidAnswerError,
    NetworkError,
    NotFoundError,
    PermissionDeniedError,
    PlanRequiredError,
    RateLimitedError,
    RoleRequiredError,
    ServerError,
    SlotFilledError,
)
from prefect_calendly.client.pace import PROCESS_LIMITS
from prefect_calendly.sandbox import Sandbox
from tests.fixtures import credentials_for

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what it looks like to a caller."""

    kind: str
    error: type[CalendlyError]
    says: str
    """What the text of the error begins with."""
    repeated: bool = False
    """Whether a GET is sent again."""
    happened: bool = False
    """Whether a write has taken effect all the same."""
    refused: bool = False
    """Whether it says that a write was not looked at: then it is sent again without looking."""
    of_booking: type[CalendlyError] | None = None
    """What it is for a booking, if something else."""
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.kind, *(str(value) for _, value in self.options)])

    def has_its_words(self, error: CalendlyError, *, lost: bool = False) -> bool:
        """Whether an error's text says what went wrong, where, and what to do; and, of a write, what was lost."""
        text = str(error)
        said = text.startswith(f"The answer to a write was lost ({self.says}" if lost else self.says)
        return said and f"{error.method} {error.path}" in text and bool(error.hint) and text.endswith(error.hint)


NO_ACCESS = "You do not have permission to access this resource."
SCOPES = "This operation requires the scopes listed in the 'required_scopes' array: scheduled_events:read"
CALENDAR = "There is a problem accessing your calendar."
ERROR_500 = "Internal Server Error: The server encountered an unexpected condition that prevented it from fulfilling"
BROKEN = "The connection broke to 127.0.0.1"
MALFORMED = "The answer is not JSON"

FAULTS = [
    Fault("unauthorized_gateway", GatewayKeyError, "Invalid or missing API key (401 "),
    Fault("unauthorized_calendly", CalendlyTokenError, "Unauthenticated: The access token is invalid (401 "),
    Fault("insufficient_scope", InsufficientScopeError, f"Insufficient scope: {SCOPES} (403 "),
    Fault("permission_denied", RoleRequiredError, f"Permission Denied: {NO_ACCESS} (403 "),
    Fault(
        "permission_denied",
        EventInPastError,
        "Permission Denied: Event in the past (403 ",
        options=(("message", "Event in the past"),),
    ),
    Fault(
        "permission_denied",
        PermissionDeniedError,
        "Permission Denied: You can not change owner role (403 ",
        options=(("message", "You can not change owner role"),),
    ),
    Fault("plan", PlanRequiredError, "Permission Denied: Please upgrade your Calendly account to Standard (403 "),
    Fault("not_found", NotFoundError, "Resource Not Found: The server could not find the requested resource. (404 "),
    Fault(
        "already_exists",
        ConflictError,
        "Already Exists: The resource already exists (409 ",
        of_booking=SlotFilledError,
    ),
    Fault("bad_request_without_details", BadRequestError, "Invalid Argument: The supplied parameters are invalid. (4"),
    Fault("redirect", InvalidAnswerError, "A redirect (302) was refused: the key goes to the configured hosts only"),
    Fault(
        "rate_limited",
        RateLimitedError,
        "Too Many Requests: Too many requests; wait 0 s (429 ",
        repeated=True,
        refused=True,
        options=(("reset", 0),),
    ),
    Fault(
        "rate_limited",
        RateLimitedError,
        "Too many requests; wait 0 s (429 ",
        repeated=True,
        refused=True,
        options=(("shape", "maton"), ("retry_after", 0)),
    ),
    Fault("external_calendar", ExternalCalendarError, f"External Calendar Error: {CALENDAR} (424 ", repeated=True),
    Fault("server_error", ServerError, ERROR_500, repeated=True),
    Fault("html_502", ServerError, "The server answered 502 without saying why (502 ", repeated=True),
    Fault("unavailable", ServerError, "Service Unavailable (503 ", repeated=True),
    Fault("drop_before", NetworkError, BROKEN, repeated=True),
    Fault("reset", NetworkError, BROKEN, repeated=True),
    Fault(  # longer than the client waits
        "latency", NetworkError, BROKEN, repeated=True, happened=True, options=(("seconds", 1.5),)
    ),
    Fault("drop_after", NetworkError, BROKEN, repeated=True, happened=True),
    Fault("error_after", ServerError, ERROR_500, repeated=True, happened=True),
    Fault("truncated_body", NetworkError, BROKEN, repeated=True, happened=True),
    Fault("malformed_json", InvalidAnswerError, MALFORMED, repeated=True, happened=True),
]
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)
# A limit and a slow server that last are told of elsewhere: they take their time.
LASTING = [fault for fault in FAULTS if not fault.refused and fault.kind != "latency"]
every_lasting_fault = pytest.mark.parametrize("fault", LASTING, ids=str)


@pytest.fixture(scope="module")
def _world(_shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """One world for all tests of a file: seeding it costs more than most of them."""
    _shared_sandbox.reset(rate_limit_per_minute=0)
    yield _shared_sandbox
    _shared_sandbox.reset()


@pytest.fixture
def sandbox(_world: Sandbox) -> Sandbox:
    """The sandbox without faults and with its figures at zero; what earlier tests of the file have changed stays."""
    _world.clear_faults()
    _world.reset_stats()
    PROCESS_LIMITS.clear()
    return _world


def client_of(sandbox: Sandbox, fault: Fault | None = None, **options: Any) -> CalendlyClient:
    """A client that gives up soon where the server is slow, and only there: a busy machine is slow, too."""
    timeout = 0.5 if fault is not None and fault.kind == "latency" else 30.0
    return credentials_for(sandbox, timeout_seconds=timeout, **options).get_client()


def uuid_in(uri: str) -> str:
    return uri.rpartition("/")[2]
