"""Replace a key: `python -m deployments.keys maton` or `python -m deployments.keys encryption`.

The new key is asked for, or read from standard input. It is never printed.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from typing import Any

import httpx
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from prefect_calendly import CalendlyCredentials
from prefect_calendly.check import acheck_credentials
from prefect_calendly.runs.markdown import pluralize


class RefusedError(Exception):
    """Nothing was changed; the message says why, in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    maton = commands.add_parser("maton", help="the Maton key of a credentials block, which is created if missing")
    maton.add_argument("--block", default="main", help="name of the block (default: main)")
    commands.add_parser("encryption", help="the key that blocks are encrypted with; API and services must be stopped")
    options = parser.parse_args()
    try:
        if options.command == "maton":
            print(asyncio.run(save_maton_key(options.block, _ask("Maton API key: "))))
        else:
            print(asyncio.run(reencrypt(_setting("PREFECT_SERVER_ENCRYPTION_KEY"), _ask("New encryption key: "))))
    except RefusedError as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 1
    return 0


def _ask(what: str) -> str:
    return (getpass.getpass(what) if sys.stdin.isatty() else sys.stdin.readline()).strip()


def _setting(name: str) -> str:
    if not (value := os.environ.get(name)):
        raise RefusedError(f"{name} is not set; run this where the API runs, with its environment")
    return value


async def save_maton_key(block: str, key: str) -> str:
    """Save a key in a credentials block, if Calendly accepts it; the other fields of the block do not change.

    Args:
        block: Name of the block; it is created if it does not exist.
        key: The key.

    Returns:
        What was done, for a person.

    Raises:
        RefusedError: The key does not work, or Prefect's API does not answer as it should.
    """
    try:
        old = await _saved(block)
        new = CalendlyCredentials(**{**(old or {}), "api_key": key})
        check = await acheck_credentials(new)
        if not check.ok:
            raise RefusedError(str(check.problem))
        await new.asave(block, overwrite=True)
    except ValidationError as error:
        raise RefusedError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    except httpx.TransportError as error:
        raise RefusedError(f"Prefect's API does not answer ({type(error).__name__}); see PREFECT_API_URL") from None
    except PrefectHTTPStatusError as error:
        raise RefusedError(f"Prefect's API answers {error.response.status_code}; its log says why") from None
    return f"calendly-credentials/{block} {'was created' if old is None else 'has the new key'}: {check.user_name}"


async def _saved(block: str) -> dict[str, Any] | None:
    """Return what is saved in a block, as it is: it may be one that cannot be loaded, because it has no key."""
    async with get_client() as client:
        try:
            document = await client.read_block_document_by_name(block, "calendly-credentials")
        except ObjectNotFound:
            return None
    known = CalendlyCredentials.model_fields
    return {name: value for name, value in document.data.items() if name in known and value is not None}


async def reencrypt(old: str, new: str) -> str:
    """Encrypt all saved blocks with another key: all of them, or none.

    Args:
        old: The current key, PREFECT_SERVER_ENCRYPTION_KEY.
        new: The new key.

    Returns:
        What was done, for a person.

    Raises:
        RefusedError: A key is not a Fernet key, or a block was not saved with the old one.
    """
    try:
        keys = MultiFernet([Fernet(new), Fernet(old)])
    except ValueError:
        raise RefusedError("an encryption key is 44 characters: openssl rand -base64 32 | tr '+/' '-_'") from None
    engine = create_async_engine(_setting("PREFECT_SERVER_DATABASE_CONNECTION_URL"))
    try:
        async with engine.begin() as connection:
            blocks = (await connection.execute(text("SELECT id, data #>> '{}' FROM block_document FOR UPDATE"))).all()
            for identifier, data in blocks:
                update = text("UPDATE block_document SET data = to_jsonb(CAST(:data AS text)) WHERE id = :id")
                await connection.execute(update, {"id": identifier, "data": keys.rotate(data.encode()).decode()})
    except InvalidToken:
        raise RefusedError(f"block {identifier} was not saved with this PREFECT_SERVER_ENCRYPTION_KEY") from None
    finally:
        await engine.dispose()
    done = f"{pluralize(len(blocks), 'block')} re-encrypted"
    return f"{done}; now set PREFECT_SERVER_ENCRYPTION_KEY to the new key, and start API and services"


if __name__ == "__main__":
    sys.exit(main())
