"""Ask the Prefect server for what a deployments file needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from deployments.check.values import placeholders
from deployments.files import FILE, deployments_of
from prefect_calendly.saved_credentials import BlockMissingError, BlockUnusableError, aload_credentials


async def problems(path: Path = FILE, *, pools: bool = True) -> list[str]:
    """Say what a deployments file needs and the Prefect server does not have.

    Args:
        path: A file without problems of its own.
        pools: Whether its work pools are needed; not where it is served from one process.

    Returns:
        One line per problem.
    """
    if found := await connection_problems():
        return found
    deployments = deployments_of(path)
    async with get_client() as client:
        found = [problem async for problem in _missing(client, deployments, pools)]
    gateways, unusable = await _load_credentials(deployments)
    live = [each for each in deployments if gateways.get(_credentials_of(each), "").startswith("https:")]
    return [*found, *unusable, *placeholders(live)]


async def connection_problems() -> list[str]:
    """Say why the Prefect server cannot be asked; empty if it can."""
    url = get_current_settings().api.url
    if not url:
        return ["PREFECT_API_URL is not set: prefect config set PREFECT_API_URL=http://<server>:4200/api"]
    async with get_client() as client:
        try:
            await client.read_work_pools(limit=1)  # /health answers without a password too
        except PrefectHTTPStatusError as error:
            status = error.response.status_code
            return [f"the Prefect server at {url} answers {status}" + "; set PREFECT_API_AUTH_STRING" * (status == 401)]
        except (HTTPError, OSError) as error:
            return [f"no Prefect server answers at {url} ({type(error).__name__}): start it, or set PREFECT_API_URL"]
    return []


async def _missing(client: PrefectClient, deployments: list[dict[str, Any]], pools: bool) -> AsyncIterator[str]:
    for pool in sorted({each["work_pool"]["name"] for each in deployments}) if pools else []:
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound:
            yield f"work pool {pool}: does not exist; make it: prefect work-pool create {pool} --type process"
        else:
            if found.is_paused:
                yield f"work pool {pool}: is paused; resume it: prefect work-pool resume {pool}"
    for slug in sorted({slug for each in deployments for slug in _block_slugs(each)}):
        kind, name = slug.split("/")
        try:
            await client.read_block_document_by_name(name, kind, include_secrets=False)
        except ObjectNotFound:
            yield f"block {slug}: does not exist; save it in the UI (Blocks), or with the block's .save({name!r})"


async def _load_credentials(deployments: list[dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Return the gateways of the credentials by type and name, and what is wrong with those that cannot be loaded."""
    gateways, unusable = {}, []
    for slug in sorted({slug for each in deployments if (slug := _credentials_of(each))}):
        try:
            gateways[slug] = (await aload_credentials(slug)).gateway_url
        except BlockMissingError:  # said already
            continue
        except BlockUnusableError as error:
            unusable.append(str(error))
    return gateways, unusable


def _credentials_of(deployment: dict[str, Any]) -> str:
    """Return type and name of the credentials that a deployment refers to; an empty text if it refers to none."""
    slugs = [slug for slug in _block_slugs(deployment) if slug.startswith("calendly-credentials/")]
    return slugs[0] if slugs else ""


def _block_slugs(value: Any) -> Iterator[str]:
    """Yield types and names of all blocks that a deployment refers to."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("block_document_slug", "notify") and isinstance(each, str):
                yield from [each] if each else []
            else:
                yield from _block_slugs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _block_slugs(each)
