"""`python -m prefect_calendly.sandbox`: starts a sandbox gateway or, with a command, changes a running one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from prefect_calendly.sandbox.app import App
from prefect_calendly.sandbox.commands import COMMANDS, PROGRAM, run
from prefect_calendly.sandbox.options import PLANS, Options
from prefect_calendly.sandbox.server import Server, listen


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0 after a normal end, also by Ctrl-C or SIGTERM; 1 after an error.

    Raises:
        SystemExit: The arguments are wrong (2), or help was requested (0).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return run(arguments)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A local HTTP server that behaves like the Maton gateway with Calendly behind it.",
        epilog=f"Commands for a running sandbox: {', '.join(COMMANDS)}; for their options: `{PROGRAM} book --help`.",
    )
    add, default = parser.add_argument, Options()
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    add(
        "--events",
        type=int,
        default=default.events,
        help="scheduled events of the organization",
    )
    add("--invitees", type=int, help="invitees of these events, at least as many as events (default: one each)")
    add("--hosts", type=int, default=default.hosts, help="hosts besides Alice; the first is the owner")
    add(
        "--upcoming",
        action="store_true",
        help="put almost all events in the future (default: a third lies in the past)",
    )
    add("--seed", type=int, default=default.seed, help="the same seed makes the same world")
    add("--now", help="ISO 8601 time at which the clock starts (default: the real time)")
    add("--clock-speed", type=float, default=default.clock_speed, help="seconds of the sandbox's clock per real second")
    add("--latency-ms", type=float, default=default.latency_ms, help="milliseconds added to every answer")
    add(
        "--gateway-rps",
        type=float,
        default=default.gateway_rps,
        help="the gateway's limit of requests per second and key; 0 turns it off",
    )
    add(
        "--rate-limit-per-minute",
        type=int,
        help="Calendly's limit of requests per minute and user (default: by plan; 0 turns it off)",
    )
    add("--plan", choices=PLANS, default=default.plan, help="plan of the organization")
    add("--api-key", default=default.api_key, help="the gateway's API key")
    add("--second-key", default=default.second_key, help="another API key, without a Calendly connection")
    add("--native-token", default=default.native_token, help="personal access token for /native")
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"unknown command {arguments[0]!r}; the commands are {', '.join(COMMANDS)}")
    given = vars(parser.parse_args(arguments))
    try:
        options = Options(**{field.name: given[field.name] for field in fields(Options)})
        app = App(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        listener, url = listen(given["host"], given["port"])
    except (OSError, OverflowError) as error:
        print(f"cannot listen on {given['host']}:{given['port']}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    with listener:
        announcement = f"listening on {url}"
        Server(app, lambda: print(announcement, flush=True)).run(sockets=[listener])  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
