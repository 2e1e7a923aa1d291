"""Which requests are repeated, and how often."""

import asyncio
from typing import Any

import httpx
import pytest

from prefect_calendly.client import CalendlyClient, Method, RetryPolicy, count_requests, errors
from tests.client.faults import FAULTS, FINAL, NEVER_SENT, WRITES, send
from tests.support import IMPATIENT, Server, VirtualTime, ok


@pytest.mark.parametrize("fault", [*FAULTS, *NEVER_SENT])
def test_a_read_is_repeated_until_it_works(fault: str, virtual_time: VirtualTime) -> None:
    broken = FAULTS[fault][0] if fault in FAULTS else NEVER_SENT[fault]
    server = Server(broken, broken, ok({"uri": "x"}))
    with count_requests() as meter:
        assert virtual_time.run(send(server)) == {"resource": {"uri": "x"}}
    assert len(server.requests) == 3
    assert (meter.requests, meter.repeats) == (3, 2)
    assert meter.seconds_waited == pytest.approx(virtual_time.now, abs=0.01)
    assert virtual_time.now > 0.1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_is_given_up_after_four_attempts(fault: str, virtual_time: VirtualTime) -> None:
    broken, kind = FAULTS[fault]
    server = Server(broken)
    with pytest.raises(kind) as caught:
        virtual_time.run(send(server))
    assert len(server.requests) == 4
    assert (caught.value.method, caught.value.path) == ("GET", "/things/A")


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_may_have_happened_is_never_repeated(
    method: Method,
    fault: str,
    virtual_time: VirtualTime,
) -> None:
    broken, kind = FAULTS[fault]
    server = Server(broken)
    with pytest.raises(kind):
        virtual_time.run(send(server, method))
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("fault", NEVER_SENT)
def test_what_was_never_sent_is_repeated(method: Method, fault: str, virtual_time: VirtualTime) -> None:
    server = Server(NEVER_SENT[fault], ok())
    virtual_time.run(send(server, method))
    assert len(server.requests) == 2
    server = Server(NEVER_SENT[fault])
    with pytest.raises(errors.NetworkError, match=r"No connection to gateway\.maton\.ai") as caught:
        virtual_time.run(send(server, method))
    assert len(server.requests) == 4
    assert not caught.value.maybe_sent


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize(("status", "kind"), FINAL)
def test_a_refusal_is_final(
    method: Method,
    status: int,
    kind: type[errors.CalendlyError],
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, json={"message": "no"}))
    with pytest.raises(kind) as caught:
        virtual_time.run(send(server, method))
    assert type(caught.value) is kind
    assert len(server.requests) == 1
    assert virtual_time.now < 0.1


def test_a_refused_connection_is_a_network_error_over_a_real_socket() -> None:
    async def story() -> None:
        options: dict[str, Any] = {"gateway_url": "http://127.0.0.1:9", "requests_per_second": 1000}
        async with CalendlyClient("key", retry=IMPATIENT, **options) as client:
            await client.request("GET", "/users/me")

    with pytest.raises(errors.NetworkError, match=r"No connection to 127.0.0.1:9 \(ConnectError\)"):
        asyncio.run(story())


# The policy


def test_the_policy_says_how_often(virtual_time: VirtualTime) -> None:
    for attempts in (1, 6):
        server = Server(httpx.Response(500))
        with pytest.raises(errors.ServerError):
            virtual_time.run(send(server, retry=RetryPolicy(attempts=attempts)))
        assert len(server.requests) == attempts


def test_the_backoff_doubles_up_to_its_bound_and_has_jitter() -> None:
    policy = RetryPolicy(first_backoff_seconds=1, longest_backoff_seconds=6)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 6), (50, 6)):
        pauses = {policy.backoff(failures) for _ in range(100)}
        assert len(pauses) > 10
        assert 0.1 * longest <= min(pauses) <= max(pauses) <= longest
    assert max(policy.limited_backoff(50) for _ in range(100)) <= 5
    assert list(policy.late_look_pauses()) == [2, 4, 8, 16]


@pytest.mark.parametrize(
    "figures",
    [
        {"attempts": 0},
        {"write_attempts": 0},
        {"late_looks": -1},
        {"first_backoff_seconds": -0.1},
        {"longest_backoff_seconds": -1},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(figures)).partition("_")[0]):
        RetryPolicy(**figures)
