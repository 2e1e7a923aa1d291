"""`python -m prefect_calendly.sandbox`: the sandbox gateway on the command line; with a command, a running one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from prefect_calendly.sandbox.app import App
from prefect_calendly.sandbox.commands import COMMANDS, PROGRAM, run
from prefect_calendly.sandbox.options import PLANS, Options
from prefect_calendly.sandbox.server import Server, listen


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return run(arguments)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A local HTTP server that behaves as the Maton gateway and Calendly behind it.",
        epilog=f"In a running sandbox: {', '.join(COMMANDS)} make something happen; `{PROGRAM} book --help` and so on.",
    )
    add, default = parser.add_argument, Options()
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="0 takes a free port")
    add(
        "--events",
        type=int,
        default=default.events,
        help="scheduled events of the organisation",
    )
    add("--invitees", type=int, help="invitees of these events, at least as many (default: one each)")
    add("--hosts", type=int, default=default.hosts, help="hosts besides Alice; the first is the owner")
    add("--upcoming", action="store_true", help="all but a few of the events lie ahead (default: a third lie behind)")
    add("--seed", type=int, default=default.seed, help="the same seed makes the same world")
    add("--now", help="ISO time at which the clock starts (default: the real time)")
    add("--clock-speed", type=float, default=default.clock_speed, help="seconds of its clock per real second")
    add("--latency-ms", type=float, default=default.latency_ms, help="added to every gateway answer")
    add("--gateway-rps", type=float, default=default.gateway_rps, help="gateway's limit per key; 0 is off")
    add("--rate-limit-per-minute", type=int, help="Calendly's limit per user (default by plan; 0 is off)")
    add("--plan", choices=PLANS, default=default.plan)
    add("--api-key", default=default.api_key)
    add("--second-key", default=default.second_key, help="a key with no Calendly connection")
    add("--native-token", default=default.native_token, help="personal token for /native")
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"no command {arguments[0]!r}; there are {', '.join(COMMANDS)}")
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
