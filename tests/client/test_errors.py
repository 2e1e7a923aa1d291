"""Every unsuccessful answer becomes the error that says what to do, and tells nothing it should not."""

import json
import pickle
from typing import Any

import pytest

from prefect_calendly.client import errors
from prefect_calendly.client.errors import CalendlyError, mask, printable
from prefect_calendly.client.refusals import error_for_answer


def answered(status: int, body: Any, *, path: str = "/users/me", method: str = "GET", **more: Any) -> CalendlyError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_for_answer(status, content, method=method, path=path, request_id="req-1", **more)


def calendly(message: str, title: str = "Permission Denied", **more: Any) -> dict[str, Any]:
    return {"title": title, "message": message, **more}


NO_ACCESS = "You do not have permission to access this resource."

CASES: list[tuple[int, Any, type[CalendlyError]]] = [
    (400, calendly("The supplied parameters are invalid.", "Invalid Argument"), errors.BadRequestError),
    (400, {"message": "No active calendly connection found"}, errors.NoConnectionError),
    (400, {"error": {"message": "Connection x is not active"}}, errors.NoConnectionError),
    (412, {"message": "A connection is required"}, errors.NoConnectionError),
    (400, {"message": "Connection reset by upstream"}, errors.BadRequestError),
    (400, {"message": "connection timed out"}, errors.BadRequestError),
    (400, {"message": "The upstream reset the connection"}, errors.BadRequestError),
    (400, {"message": "upstream disconnect/reset before headers: connection termination"}, errors.BadRequestError),
    (400, b"[" * 200_000, errors.BadRequestError),
    (400, calendly("Your calendar connection is broken", "Invalid Argument"), errors.BadRequestError),
    (422, {"detail": [{"loc": ["query", "limit"], "msg": "not a number"}]}, errors.BadRequestError),
    (401, {"error": {"message": "Invalid or missing API key"}}, errors.GatewayKeyError),
    (401, {"message": "expired"}, errors.GatewayKeyError),
    (401, b"", errors.GatewayKeyError),
    (401, calendly("The access token is invalid", "Unauthenticated"), errors.CalendlyTokenError),
    (403, calendly(NO_ACCESS), errors.RoleRequiredError),
    (403, calendly("You do not have permission"), errors.RoleRequiredError),
    (403, calendly("This user is not in your organization"), errors.RoleRequiredError),
    (403, calendly("Please also specify organization when requesting events."), errors.RoleRequiredError),
    (403, calendly("You are not allowed to view this event"), errors.RoleRequiredError),
    (403, calendly("Please upgrade your Calendly account to Standard"), errors.PlanRequiredError),
    (403, calendly("The Scheduling API is only available on paid Calendly plans."), errors.PlanRequiredError),
    (403, calendly("Not available. Required features are not enabled."), errors.PlanRequiredError),
    (403, calendly("Event is already canceled"), errors.AlreadyCanceledError),
    (403, calendly("Event in the past"), errors.EventInPastError),
    (403, calendly("No.", "Insufficient scope", required_scopes=["a:read"]), errors.InsufficientScopeError),
    (403, calendly("No.", "Insufficient scope"), errors.InsufficientScopeError),
    (403, calendly("The moon is full"), errors.PermissionDeniedError),
    (403, b"<html>Forbidden</html>", errors.PermissionDeniedError),
    (404, calendly("The server could not find it.", "Resource Not Found"), errors.NotFoundError),
    (404, {"message": "Resource not found"}, errors.NotFoundError),
    (404, {"detail": "Not Found"}, errors.NotFoundError),
    (409, calendly("Hook with this url already exists", "Already Exists"), errors.ConflictError),
    (424, calendly("There is a problem.", "External Calendar Error"), errors.ExternalCalendarError),
    (429, {"message": "Too many requests"}, errors.RateLimitedError),
    (500, calendly("An unexpected condition.", "Internal Server Error"), errors.ServerError),
    (502, b"<html><body>Bad Gateway</body></html>", errors.ServerError),
    (503, b'{"message": "Serv', errors.ServerError),
    (418, {"message": "I am a teapot"}, CalendlyError),
    (302, b"", errors.InvalidAnswerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), CASES, ids=lambda case: str(case)[:40])
def test_each_answer_becomes_its_own_error_with_all_that_helps(
    status: int, body: Any, kind: type[CalendlyError]
) -> None:
    error = answered(status, body)
    assert type(error) is kind
    assert (error.status, error.request_id, error.method, error.path) == (status, "req-1", "GET", "/users/me")
    assert f"({status} GET /users/me, request req-1)" in str(error)
    assert error.hint in str(error)
    assert error.hint or kind is CalendlyError


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)], ids=str)
def test_every_error_has_a_hint_and_belongs_to_the_one_tree(kind: type) -> None:
    if issubclass(kind, Exception) and kind not in (CalendlyError, errors.AuthenticationError):
        assert issubclass(kind, CalendlyError)
        assert kind.hint


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (calendly("The words.", "The title"), "The title: The words."),
        ({"error": {"message": "The words."}}, "The words."),
        ({"message": "The words."}, "The words."),
        ({"detail": "The words."}, "The words."),
        ({"title": "Only a title"}, "Only a title"),
        ({"title": "Twice", "message": "Twice"}, "Twice"),
        ([1, 2], "The server answered 400 without saying why"),
        ({"title": 1, "message": ["x"], "error": "x", "detail": 3}, "The server answered 400 without saying why"),
    ],
)
def test_all_body_shapes_are_read(body: Any, words: str) -> None:
    assert str(answered(400, body)).startswith(f"{words} (400")


def test_the_reason_is_the_text_without_the_hint() -> None:
    error = answered(404, calendly("The words.", "The title", details=[{"parameter": "p", "message": "no"}]))
    assert error.reason == "The title: The words. [p: no] (404 GET /users/me, request req-1)"
    assert str(error) == f"{error.reason}. {error.hint}"
    assert answered(418, {"message": "no"}).reason == "no (418 GET /users/me, request req-1)"
    assert CalendlyError("bare", hint="").reason == str(CalendlyError("bare", hint="")) == "bare"
    assert CalendlyError("bare", hint="Do this.").reason == "bare"


def test_a_path_that_the_gateway_does_not_know_points_at_the_two_addresses() -> None:
    hint = answered(404, {"detail": "Not Found"}).hint
    assert "gateway_url" in hint
    assert "connections_url" in hint
    for body in (
        calendly("Not Found", "Resource Not Found"),
        {"message": "Not Found"},
        {"detail": "Not Found", "message": "no"},
        ["detail"],
    ):
        assert answered(404, body).hint == errors.NotFoundError.hint
    assert answered(409, {"detail": "Not Found"}).hint == errors.ConflictError.hint


def test_details_name_parameter_and_code() -> None:
    details = [
        {"parameter": "event.start_time", "message": "That start time has been filled", "code": "already_filled"},
        {"message": "too early"},
        {},
        "no object",
    ]
    error = answered(400, calendly("Invalid.", "Invalid Argument", details=details), method="POST", path="/invitees")
    assert isinstance(error, errors.SlotFilledError)
    assert error.details[0].parameter == "event.start_time"
    assert error.details[0].code == "already_filled"
    assert "[event.start_time: That start time has been filled; too early; invalid]" in str(error)


def test_a_conflict_on_a_booking_is_a_filled_slot() -> None:
    body = calendly("The resource already exists", "Already Exists")
    assert type(answered(409, body, method="POST", path="/invitees")) is errors.SlotFilledError
    assert type(answered(409, body, path="/scheduled_events/A/invitees")) is errors.ConflictError  # that one reads


@pytest.mark.parametrize(
    ("loc", "shown"), [(["query", "limit"], "query.limit: no"), (None, "no"), ("limit", "limit: no"), (3, "3: no")]
)
def test_the_frameworks_validation_errors_are_details(loc: Any, shown: str) -> None:
    assert f"[{shown}]" in str(answered(422, {"detail": [{"loc": loc, "msg": "no"}, "nothing"]}))


def test_missing_scopes_are_named() -> None:
    error = answered(403, calendly("Scopes needed.", "Insufficient scope", required_scopes=["users:read", "a:write"]))
    assert isinstance(error, errors.InsufficientScopeError)
    assert error.required_scopes == ("users:read", "a:write")
    assert "Scopes needed: users:read, a:write" in str(error)


def test_seconds_to_wait_are_told() -> None:
    error = answered(429, {"message": "Too many requests."}, retry_after_seconds=17.5)
    assert isinstance(error, errors.RateLimitedError)
    assert error.retry_after_seconds == 17.5
    assert "Too many requests; wait 17.5 s" in str(error)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("bob.smith@example.com has already been invited", "bob.smith"),
        ("<o'brien+x@mail.example.co.uk> is there", "brien"),
        ("Bad: “jörg@bücher.example”", "jörg"),
        ('"john doe"@example.com is there', "john"),
        ("at https://x.example/?invitee_email=bob%40example.com&x=1", "bob"),
        ("open https://connect.maton.ai/?session_token=abc123&x=1", "abc123"),
        ('{"session_token": "abc123"}', "abc123"),
        ("Authorization: Bearer abc123", "abc123"),
    ],
)
def test_addresses_and_secrets_are_masked_everywhere(text: str, secret: str) -> None:
    assert secret not in mask(text)
    assert "***" in mask(text)
    details = [{"parameter": text, "message": text, "code": text}]
    error = answered(400, {"title": text, "message": text, "details": details})
    for shown in (str(error), repr(error), repr(error.details), repr(vars(error))):
        assert secret not in shown
    body = json.dumps(calendly("No.", "Insufficient scope", required_scopes=[text])).encode()
    error = error_for_answer(403, body, method="GET", path="/a", request_id=text)
    assert isinstance(error, errors.InsufficientScopeError)
    for shown in (str(error), repr(error), repr(vars(error))):
        assert secret not in shown


ODD = "a\x00b\x1b[2J\x7fc\x9b\u200bd\u202ee\ufefff\ud800g\U000e0041h"


@pytest.mark.parametrize("show", [printable, mask])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ODD, "ab[2Jcdefgh"),
        ("two\nlines\r\nand\tmore\x0b\x0c\x85\u2028\u2029end", "two lines and more end"),
        ("  around \n", "around"),
        ("Jörg Müller 王 🎉 é", "Jörg Müller 王 🎉 é"),
        ("", ""),
    ],
)
def test_a_text_is_one_line_without_what_a_terminal_would_obey(show: Any, text: str, shown: str) -> None:
    assert show(text) == shown


def test_control_characters_do_not_hide_a_secret() -> None:
    assert mask("bob\u200b.smith@exa\x00mple.com") == "***@example.com"
    assert mask("Bearer\nabc123") == "Bearer ***"


def test_no_control_character_of_an_answer_gets_into_an_error() -> None:
    details = [{"parameter": ODD, "message": ODD, "code": ODD}]
    body = {"title": ODD, "message": f"{ODD}\n{ODD}", "details": details, "required_scopes": [ODD, "x\ny"]}
    for status in (400, 403, 404, 429, 500):
        error = error_for_answer(status, json.dumps(body).encode(), method="GET", path="/a", request_id=f"r{ODD}")
        parts = [str(error), error.title or "", error.message, error.request_id or "", *error.args]
        parts += [part or "" for detail in error.details for part in (detail.message, detail.parameter, detail.code)]
        parts += getattr(error, "required_scopes", ())
        assert all(part.isprintable() for part in parts)
        "".join(parts).encode()  # no lone surrogate: what is logged can be written
        assert "ab[2Jcdefgh" in str(error)
        assert error.request_id == "rab[2Jcdefgh"


def test_a_text_without_secrets_stays_as_it_is() -> None:
    text = "event.start_time must be before 2026-01-01T00:00:00Z (see https://calendly.com/alice/30min)"
    assert mask(text) == text


def test_long_bodies_are_not_quoted_whole() -> None:
    assert len(mask("x" * 10_000_000)) == 500  # in no time: the pattern does not look back over the whole text
    details = [{"parameter": f"p{number}", "message": "y" * 400} for number in range(100)]
    text = str(answered(400, calendly("x" * 5000, "t" * 5000, details=details)))
    assert len(text) < 6000
    assert "and 90 more" in text
    assert "<html>" not in str(answered(502, b"<html>" + b"x" * 1000))


@pytest.mark.parametrize(
    "error",
    [
        *(answered(status, body, retry_after_seconds=3.0) for status, body, _ in CASES),
        errors.NetworkError("gone", maybe_sent=False, method="GET", path="/x"),
        errors.InvalidAnswerError("no", resource="User", member="name"),
        CalendlyError("mine", hint="Do this."),
        CalendlyError("bare", request_id="req-2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_as_prefect_does_it(error: CalendlyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
