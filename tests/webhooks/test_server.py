"""The receiver's HTTP server: clients that waste its time, connections or memory are cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefect_calendly.webhooks.server import ServerLimits
from tests.webhooks.examples import booking
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import PATH, Receiver, running, settings


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


def test_more_connections_than_there_may_be_are_refused_and_the_others_served(
    limited: Callable[[ServerLimits], Receiver],
) -> None:
    receiver = limited(ServerLimits(connections=5))
    assert receiver.deliver(booking(1)).status_code == 200
    others = [socket.create_connection(receiver.address) for _ in range(4)]
    with socket.create_connection(receiver.address) as one_too_many:
        assert hung_up(one_too_many) == b""
    assert receiver.deliver(booking(2)).status_code == 200
    for other in others:
        other.close()
