"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from prefect_calendly.client.answers import member_of, parsed
from prefect_calendly.client.errors import BadRequestError, InvalidAnswerError

M = TypeVar("M", bound=BaseModel)

_MOST_RESTARTS: Final = 3
# A list with a fresh token on every page, and nothing new on any, would never end.
_MOST_PAGES_OF_NOTHING_NEW: Final = 20
_LONGEST_TOKEN: Final = 8_000


async def pages(
    get: Callable[[Mapping[str, Any]], Awaitable[Any]],
    path: str,
    model: type[M],
    *,
    params: Mapping[str, Any] | None,
    count: int,
    page_token: str | None,
    limit: int | None,
) -> AsyncIterator[M]:
    """Go through a paged list; see `CalendlyClient.pages`.

    Args:
        get: Sends the request for a page, given its query parameters, and returns the decoded answer.
        path: Path of the list, for error texts.
        model: What each item is.
        params: Filters; sent again with each page.
        count: Items per page.
        page_token: Where to start.
        limit: Stop after that many items.

    Yields:
        The items, in the server's order.
    """
    check_paging(count, limit)
    left, beginning, restarts = limit, page_token, 0
    # The same on every page, and with a token of the caller's as it was: a token is bound to its `count`.
    size = count if limit is None or page_token is not None else min(count, limit)
    seen, given = {page_token}, set[int]()
    pages_of_nothing_new = 0
    while True:
        try:
            body = await get({**(params or {}), "count": size, "page_token": page_token})
        except BadRequestError as error:
            if page_token == beginning or not _is_stale(error) or restarts == _MOST_RESTARTS:
                raise
            restarts += 1
            # All that was read comes again first.
            page_token, seen, pages_of_nothing_new = beginning, {beginning}, -len(seen)
            continue
        has_new = False
        for item in member_of(body, "collection", list, "GET", path):
            uri = item.get("uri") if isinstance(item, dict) else None
            known = isinstance(uri, str) and hash(uri) in given
            has_new = has_new or not known
            if restarts and known:
                continue
            if isinstance(uri, str):
                given.add(hash(uri))
            yield parsed(item, model, "GET", path)
            if left is not None:
                left -= 1
                if left == 0:
                    return
        pagination = body.get("pagination")
        following = pagination.get("next_page_token") if isinstance(pagination, dict) else None
        if not following:
            return
        if has_new:
            pages_of_nothing_new = min(pages_of_nothing_new, 0)
        elif (pages_of_nothing_new := pages_of_nothing_new + 1) > _MOST_PAGES_OF_NOTHING_NEW:
            raise InvalidAnswerError(
                f"{_MOST_PAGES_OF_NOTHING_NEW} pages in a row have nothing new, and there is always one more",
                method="GET",
                path=path,
            )
        page_token = str(following)
        if len(page_token) > _LONGEST_TOKEN or not page_token.isprintable():
            raise InvalidAnswerError("The token of the next page is none that can be sent", method="GET", path=path)
        if page_token in seen:
            raise InvalidAnswerError("The next page is an earlier page again", method="GET", path=path)
        seen.add(page_token)


def check_paging(count: int, limit: int | None) -> None:
    """Check the paging arguments: `count` 1 to 100, `limit` at least 1; raise ValueError otherwise."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 100:
        raise ValueError(f"count must be 1 to 100 items per page, not {count!r}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit must be at least 1, or None for all, not {limit!r}")


def _is_stale(error: BadRequestError) -> bool:
    return any(detail.parameter == "page_token" for detail in error.details)
