"""A Prefect and a receiver per test; and one of each for tests that leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import Receiver, running, settings


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    """A Prefect that misbehaves on demand."""
    prefect = FakePrefect()
    yield prefect
    prefect.answers.set()
    prefect.stop()


@pytest.fixture
def receiver(prefect: FakePrefect, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that gives `prefect` what is delivered."""
    with running(settings(tmp_path / "receiver.db"), prefect.url) as receiver:
        yield receiver


@pytest.fixture
def hasty(prefect: FakePrefect, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that soon gives up when Prefect does not answer."""
    with running(settings(tmp_path / "receiver.db", handover_seconds=0.3), prefect.url) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_prefect() -> Iterator[FakePrefect]:
    """A Prefect for a whole module."""
    prefect = FakePrefect()
    yield prefect
    prefect.stop()


@pytest.fixture(scope="module")
def shared(shared_prefect: FakePrefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for a whole module."""
    store = tmp_path_factory.mktemp("shared") / "receiver.db"
    with running(settings(store), shared_prefect.url) as receiver:
        yield receiver


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.stack)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of either kind."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return f"postgresql://{postgres.create('receiver')}"
    return f"sqlite:///{tmp_path / 'receiver.db'}"
