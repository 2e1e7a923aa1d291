"""Loading a saved block of credentials, and saying what is wrong with one that cannot be loaded."""

from __future__ import annotations

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from prefect_calendly.credentials import CalendlyCredentials


class BlockUnusableError(ValueError):
    """A saved block of credentials cannot be used; the message says why, and what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        self.problem, self.hint = problem, hint
        super().__init__(f"{problem}. {hint}")


class BlockMissingError(BlockUnusableError):
    """There is no saved block of that name."""


async def aload_credentials(name: str) -> CalendlyCredentials:
    """Load a saved block of credentials, and say what is wrong with it if that is impossible.

    The forms of Prefect's UI save a block without checking it. Where a deployment refers to such a block, a run fails
    before it begins, with no more than "Failed to resolve block references in parameters".

    Args:
        name: Name of the Calendly Credentials block; its type may stand before it.

    Returns:
        The block.

    Raises:
        BlockMissingError: There is no such block.
        BlockUnusableError: Its values cannot be used, or the Prefect server does not give it.

    Example:
        ```python
        try:
            credentials = await aload_credentials("main")
        except BlockUnusableError as unusable:
            print(unusable)
        ```
    """
    name = name.removeprefix("calendly-credentials/")
    try:
        return await CalendlyCredentials.aload(name)
    except ValueError:
        problem = f"the Prefect server has no block calendly-credentials/{name}"
        raise BlockMissingError(problem, "Save one in its UI (Blocks), or name another.") from None
    except (httpx.TransportError, RuntimeError) as error:
        if isinstance(error.__cause__, ValidationError):
            wrong = error.__cause__.errors(include_input=False, include_url=False)
            problem = f"the block calendly-credentials/{name} cannot be used: {'; '.join(map(_wrong_field, wrong))}"
            hint = "Correct it in Prefect's UI (Blocks → Edit)."
        else:
            problem, hint = f"the Prefect server does not answer ({type(error).__name__})", "See PREFECT_API_URL."
    except PrefectHTTPStatusError as error:
        problem = f"the Prefect server answers {error.response.status_code}"
        hint = "Its log says why; InvalidToken there means that the block was saved with another encryption key."
    raise BlockUnusableError(problem, hint) from None


def _wrong_field(error: ErrorDetails) -> str:
    """Say what is wrong with a field, without its value; our own sentences name the field themselves."""
    field, said = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    return said if error["type"] == "value_error" else f"{field}: {said}"
