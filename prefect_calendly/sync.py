"""How a coroutine function gets a plain twin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_sync(call: Callable[[], Coroutine[Any, Any, T]], name: str, async_name: str) -> T:
    """Run a coroutine function to its end in an event loop of its own.

    Args:
        call: Makes the coroutine.
        name: What the caller called, for the error text.
        async_name: What to call instead where an event loop is running.

    Returns:
        The coroutine's result.

    Raises:
        RuntimeError: An event loop is running in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        inside = False
    else:
        inside = True
    if inside:
        raise RuntimeError(f"`{name}` cannot run inside an event loop: use `await {async_name}(…)` in async code")
    return asyncio.run(call())
