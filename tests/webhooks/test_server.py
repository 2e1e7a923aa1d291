"""The receiver's HTTP server: clients that waste its time, connections or memory are cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from prefect_calendly.webhooks.server import ServerLimits
from tests.webhooks.examples import booking
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import PATH, Receiver, eventually, running, settings
from tests.webhooks.served import Served


@pytest.fixture
def limited(prefect: FakePrefect, tmp_path: Path) -> Iterator[Callable[[ServerLimits], Receiver]]:
    """Starts a receiver with other limits."""
    with ExitStack() as stack:
        store = settings(tmp_path / "receiver.db")
        yield lambda limits: stack.enter_context(running(store, prefect.url, limits))


def hung_up(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    came = b""
    connection.settimeout(30)
    try:
        while more := connection.recv(65_536):
            came += more
    except ConnectionError:
        pass
    return came


@pytest.mark.parametrize("start", [b"", b"POST / HTTP/1.1\r\nhost: a", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET"])
def test_a_client_that_does_not_finish_a_request_is_cut_off(
    limited: Callable[[ServerLimits], Receiver], start: bytes
) -> None:
    receiver = limited(ServerLimits(client_seconds=0.3))
    with socket.create_connection(receiver.address) as connection:
        connection.sendall(start)
        over = threading.Event()

        def trickle() -> None:  # a byte from time to time gives no more time
            try:
                while not over.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                pass

        trickling = threading.Thread(target=trickle)
        trickling.start()
        came = hung_up(connection)
        over.set()
        trickling.join()
    assert came.startswith(b"HTTP/1.1 200") == start.startswith(b"GET")


def test_a_request_that_prefect_keeps_waiting_longer_than_a_client_may_is_still_answered(
    prefect: FakePrefect, limited: Callable[[ServerLimits], Receiver]
) -> None:
    receiver = limited(ServerLimits(client_seconds=0.2))
    prefect.answers.clear()
    releasing = threading.Timer(0.6, prefect.answers.set)
    releasing.start()
    assert receiver.deliver(booking(1)).status_code == 200


def test_a_client_that_goes_on_sending_what_was_refused_is_cut_off(
    limited: Callable[[ServerLimits], Receiver],
) -> None:
    receiver = limited(ServerLimits(unread_bytes=100_000))
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 100000000\r\n\r\n"
    with socket.create_connection(receiver.address) as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):
            connection.sendall(b" " * 30_000_000)
    assert receiver.deliver(booking(1)).status_code == 200


def test_a_client_that_sends_requests_and_reads_no_answers_is_cut_off(
    limited: Callable[[ServerLimits], Receiver],
) -> None:
    receiver = limited(ServerLimits(client_seconds=0.3))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(30)
        connection.connect(receiver.address)
        with pytest.raises(ConnectionError):
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * 1_000_000)
    assert receiver.deliver(booking(1)).status_code == 200


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_a_client_that_does_not_read_a_long_answer_is_cut_off(connection: bytes) -> None:
    served = Served(PlainTextResponse("x" * 16_000_000), limits=ServerLimits(client_seconds=0.1))
    try:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: %b\r\n\r\n" % connection)
            assert client.recv(1)
            eventually(lambda: served.connections == 0)
    finally:
        served.stop()


def test_full_of_connections_the_one_that_is_idle_for_longest_makes_room(
    limited: Callable[[ServerLimits], Receiver],
) -> None:
    receiver = limited(ServerLimits(connections=3))
    with ExitStack() as stack:
        oldest, *others = (stack.enter_context(socket.create_connection(receiver.address)) for _ in range(3))
        assert receiver.deliver(booking(1)).status_code == 200
        assert hung_up(oldest) == b""
        for other in others:
            other.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert hung_up(other).startswith(b"HTTP/1.1 200")


def test_full_of_connections_that_wait_for_us_the_newest_is_refused(
    prefect: FakePrefect, limited: Callable[[ServerLimits], Receiver]
) -> None:
    receiver = limited(ServerLimits(connections=1))
    prefect.answers.clear()
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(receiver.deliver(booking(1)).status_code))
    sender.start()
    prefect.asked.wait(30)
    with socket.create_connection(receiver.address) as one_too_many:
        assert hung_up(one_too_many) == b""
    prefect.answers.set()
    sender.join()
    assert answers == [200]
