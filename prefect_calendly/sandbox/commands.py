"""`python -m prefect_calendly.sandbox book …`: bookings in a running sandbox, through its control surface."""

from __future__ import annotations

import argparse
import os
import re
import sys
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from prefect_calendly.sandbox.remote import control

COMMANDS = ("book", "cancel", "move", "no-show")
PROGRAM = "python -m prefect_calendly.sandbox"
URL_VARIABLE = "CALENDLY_SANDBOX_URL"


def run(arguments: list[str]) -> int:
    """Do what a command says; prints the event's URI, or one line that says what is wrong."""
    given = vars(_parser().parse_args(arguments))
    url = (given["url"] or "").rstrip("/")
    if not url:
        return _fail(f"which sandbox? Name it with --url or in {URL_VARIABLE}, such as http://127.0.0.1:8321")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and url.isascii() and not re.search(r"\s", url)
    except ValueError:
        usable = False
    if not usable:
        return _fail(f"{url!r} is no URL of a sandbox, such as http://127.0.0.1:8321")
    path, body = _call(given)
    try:
        answer = control(url, "POST", path, {name: value for name, value in body.items() if value is not None})
        print(answer["uri"])  # noqa: T201
    except (ValueError, KeyError) as error:
        return _fail(str(error))
    except (OSError, HTTPException):
        return _fail(f"no sandbox answers at {url}; `{PROGRAM} --port N` starts one")
    return 0


def _call(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The control call of a command: path and body."""
    if given["command"] == "book":
        person = {name: given[name] for name in ("email", "name") if given[name] is not None}
        return "/events", {"start_time": given["start"], "host": given["host"], "invitees": [person]}
    path = f"/events/{quote(given['event'].rstrip('/').rpartition('/')[2], safe='')}"
    if given["command"] == "move":
        return f"{path}/reschedule", {"start_time": given["start"]}
    if given["command"] == "cancel":
        return f"{path}/cancel", {name: given[name] for name in ("by", "invitee", "reason")}
    return f"{path}/no_show", {"invitee": given["invitee"], "undo": given["undo"]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Something happens in a running sandbox.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--url", default=os.environ.get(URL_VARIABLE), help=f"the sandbox (default: {URL_VARIABLE})")
        return added

    start = "ISO time, UTC unless it says otherwise (default: the first free slot from tomorrow on)"
    one = "address of the one invitee who is meant (default: all)"
    book = command("book", "An invitee books; prints the URI of the event.")
    book.add_argument("email", type=_email, help="of the invitee")
    book.add_argument("--start", help=start)
    book.add_argument("--host", help="address or identifier of the user who is booked (default: Alice)")
    book.add_argument("--name", help="of the invitee (default: what stands before the @)")
    cancel = command("cancel", "The invitees cancel an event; prints its URI.")
    move = command("move", "The invitees move an event; prints the URI of the new one.")
    no_show = command("no-show", "The invitees of an event did not come; prints its URI.")
    for added in (cancel, move, no_show):
        added.add_argument("event", metavar="EVENT_UUID", type=_event, help="or its URI")
    cancel.add_argument("--by", choices=("invitee", "host"), help="who cancels (default: invitee)")
    cancel.add_argument("--reason")
    move.add_argument("--start", help=start)
    no_show.add_argument("--undo", action="store_true", help="they did come after all")
    for added in (cancel, no_show):
        added.add_argument("--invitee", help=one)
    return parser


def _email(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no e-mail address")
    return text


def _event(text: str) -> str:
    if not text.strip("/ "):
        raise argparse.ArgumentTypeError("name a scheduled event by its identifier or URI")
    return text


def _fail(words: str) -> int:
    print(f"{PROGRAM}: {words}", file=sys.stderr)  # noqa: T201
    return 1
