"""Which bookings are unwanted, and canceling them.

The verbs, in the order in which a flow uses them: `scan_events` reads and decides, `CancelPage` shows the plan,
`cancel_events` carries it out, `save_cursor` lets the next scan skip what has not changed. For one booking:
`read_booking`, `plan_for_booking`.
"""

from prefect_calendly.screening.booking import plan_for_booking, read_booking
from prefect_calendly.screening.cancellation import cancel_events
from prefect_calendly.screening.decision import Rules, decide
from prefect_calendly.screening.page import CancelPage, ScreenPage
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import CancellationsFailedError, TooManyCancellationsError
from prefect_calendly.screening.run import CancelRun, ScreenRun
from prefect_calendly.screening.scan import save_cursor, scan_events

__all__ = [
    "CancelPage",
    "CancelPolicy",
    "CancelRun",
    "CancellationsFailedError",
    "Plan",
    "Rules",
    "ScreenPage",
    "ScreenRun",
    "TooManyCancellationsError",
    "cancel_events",
    "decide",
    "plan_for_booking",
    "read_booking",
    "save_cursor",
    "scan_events",
]
