"""The control surface, `/_sandbox`: looking into the sandbox and arranging situations. It is not part of Calendly.

The calls are documented in `prefect_calendly.sandbox`. To add one, write a handler in the file of its subject and
decorate it with the file's `control`.
"""

from starlette.applications import Starlette

from prefect_calendly.sandbox.control import bookings, connections, deliveries, people, runtime
from prefect_calendly.sandbox.control.calls import Calls
from prefect_calendly.sandbox.state import State

calls = Calls()
for subject in (runtime, bookings, people, deliveries, connections):
    calls.include(subject.calls)


def control_app(state: State) -> Starlette:
    """The application that serves the control surface of a state."""
    return Starlette(routes=calls.routes(state))
