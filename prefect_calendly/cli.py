"""`prefect-calendly` on the command line: check credentials, begin a project, run the sandbox or the receiver."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, CycloptsError, Parameter

from prefect_calendly.about import __version__

if TYPE_CHECKING:
    from prefect_calendly import CalendlyCredentials
    from prefect_calendly.check import AccountCheck

FINE: Final = 0
LACKING: Final = 1
UNUSABLE: Final = 2

app = App(name="prefect-calendly", version=__version__, help="Calendly for Prefect.")

Flag = Annotated[bool, Parameter(negative="")]
Flows = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]


class _Refused(Exception):
    """Why a command cannot do what it was asked to, in a sentence; `status` is its exit status."""

    def __init__(self, message: str, status: int = UNUSABLE) -> None:
        super().__init__(message)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    try:
        result = app(
            sys.argv[1:] if arguments is None else list(arguments), exit_on_error=False, result_action="return_value"
        )
    except CycloptsError:  # it has printed why
        return UNUSABLE
    except _Refused as error:
        print(f"prefect-calendly: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else FINE


# check


@app.command
def check(*, block: str | None = None, flows: Flows = None, json: Flag = False) -> int:
    """Say whether credentials work, whose they are, and which flows they can run.

    It only reads. Exit status: 0 if nothing is missing, 1 if a flow lacks something, 2 if the credentials do not work.

    Args:
        block: Name of a saved Calendly Credentials block. Without it: MATON_API_KEY, MATON_GATEWAY_URL and
            MATON_CONNECTIONS_URL.
        flows: Only these flows, such as cancel_blocked_domains.
        json: Print JSON instead of a table.
    """
    from prefect_calendly.check import acheck_account

    async def run() -> AccountCheck:
        return await acheck_account(await _credentials(block), _names(flows))

    try:
        account = asyncio.run(run())
    except ValueError as error:
        raise _Refused(str(error)) from None
    print(account.model_dump_json(indent=2) if json else _as_text(account))
    if not account.ok:
        return UNUSABLE
    return FINE if account.complete else LACKING


async def _credentials(block: str | None) -> CalendlyCredentials:
    """Load the named block, or make credentials of the environment."""
    from pydantic import ValidationError

    from prefect_calendly import CalendlyCredentials
    from prefect_calendly.saved_credentials import BlockUnusableError, aload_credentials

    try:
        return CalendlyCredentials() if block is None else await aload_credentials(block)
    except ValidationError as error:
        raise _Refused(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    except BlockUnusableError as error:
        raise _Refused(str(error)) from None


def _names(flows: Sequence[str] | None) -> list[str] | None:
    """Return names of flows, given one by one or with commas between them, as Python writes them."""
    if flows is None:
        return None
    return [name.strip().replace("-", "_") for each in flows for name in each.split(",") if name.strip()]


def _as_text(account: AccountCheck) -> str:
    from prefect_calendly.account_page import SAYS, facts, lacking

    lines = [f"{name:<13} {value}" for name, value in facts(account)]
    if account.flows:
        lines += ["", f"{'flow':<28}{'for the user':<14}for the organization"]
        lines += [f"{it.flow:<28}{SAYS[it.user_scope]:<14}{SAYS[it.organization_scope]}" for it in account.flows]
    for lack, flows in lacking(account).items():
        lines += ["", f"These credentials {lack}", f"  needed by {', '.join(flows)}"]
    return "\n".join(lines)


# init


@app.command
def init(folder: Path, /, *, flows: Flows = None) -> int:
    """Begin a project of your own: flows to change, their deployments, and tests that run on the sandbox.

    It overwrites nothing: if one of its files exists, it writes none and exits with 1.

    Args:
        folder: Where to put it; made if it is not there.
        flows: Which flows, such as cancel_blocked_domains. Without it you are asked; all where nobody can answer.
    """
    from prefect_calendly.init.deployments import available_flows
    from prefect_calendly.init.project import FilesExistError, project_files, write_project

    folder = folder.expanduser().absolute()
    names = _names(flows)
    if names is None:
        names = available_flows()
        if sys.stdin.isatty() and sys.stdout.isatty():
            names = _ask_for_flows(names)
    try:
        contents = project_files(names, folder)
        write_project(folder, contents)
    except ValueError as error:
        raise _Refused(str(error)) from None
    except FilesExistError as error:
        raise _Refused(str(error), LACKING) from None
    except OSError as error:
        raise _Refused(f"{error.filename}: {error.strerror}; nothing was written", LACKING) from None
    print(f"{folder} has {len(contents)} new files. What to do next: {folder / 'README.md'}")
    return FINE


def _ask_for_flows(available: Sequence[str]) -> list[str]:
    """Ask the person at the terminal which flows they want."""
    print("Which flows?")
    for number, name in enumerate(available, 1):
        print(f"  {number}  {name}")
    while True:
        try:
            answer = _names([input("Numbers or names, with commas between them [all]: ")]) or []
        except EOFError:
            raise KeyboardInterrupt from None
        chosen = [
            available[int(each) - 1] if each.isdecimal() and 1 <= int(each) <= len(available) else each
            for each in answer
        ]
        if answer in ([], ["all"]):
            return list(available)
        if set(chosen) <= set(available):
            return chosen
        print("Answer with numbers from the list, such as 1,3")


# sandbox, receiver


@app.command(help_flags=[], version_flags=[])
def sandbox(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the sandbox gateway, or make something happen in a running one; --help lists its options."""
    from prefect_calendly.sandbox.__main__ import main as run

    return run(list(arguments))


@app.command(help_flags=[], version_flags=[])
def receiver(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the receiver of Calendly's webhook deliveries; --help lists its options."""
    from prefect_calendly.webhooks.__main__ import main as run

    return run(list(arguments))


if __name__ == "__main__":
    sys.exit(main())
