"""check_credentials on the sandbox."""

import asyncio

from flows.check_credentials import check_credentials
from prefect_calendly import CalendlyCredentials


def test_saved_credentials_are_checked(credentials: CalendlyCredentials) -> None:
    credentials.save("checked", overwrite=True)
    account = asyncio.run(check_credentials("checked"))
    assert account.complete
    assert account.user_name == "Alice Johnson"
