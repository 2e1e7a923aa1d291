"""What tests of several flows use."""

import pytest

from prefect_calendly.sandbox import Sandbox
from tests.fixtures import credentials_for
from tests.flows.approvals import Deployed, deploy
from tests.notifiers import Receiver


@pytest.fixture
async def deployed(prefect_server: None, sandbox: Sandbox, receiver: Receiver) -> Deployed:
    await credentials_for(sandbox).asave("approval", overwrite=True)
    return Deployed(await deploy("with-approval"), sandbox, receiver.block)
