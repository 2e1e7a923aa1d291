"""What tests of several flows use."""

import asyncio
from uuid import UUID

import pytest

from prefect_calendly.sandbox import Sandbox
from tests.fixtures import credentials_for
from tests.flows.approvals import Deployed, deploy
from tests.notifiers import Receiver


@pytest.fixture(scope="session")
def deployment(prefect_server: None, _shared_sandbox: Sandbox) -> UUID:
    """The cancel flow, deployed once: it asks a person, and uses the sandbox of the tests."""
    return asyncio.run(deploy(credentials_for(_shared_sandbox), "with-approval"))


@pytest.fixture
def deployed(deployment: UUID, sandbox: Sandbox, receiver: Receiver) -> Deployed:
    return Deployed(deployment, sandbox, receiver.block)
