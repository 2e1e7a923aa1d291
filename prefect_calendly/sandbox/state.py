"""What a running sandbox consists of. The application serves it, the control surface looks into it and changes it."""

from __future__ import annotations

from prefect_calendly.sandbox.deliveries import Deliveries, Sender
from prefect_calendly.sandbox.faults import Fault
from prefect_calendly.sandbox.limits import Limits
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.seed import build
from prefect_calendly.sandbox.stats import Stats


class State:
    """The world, its deliveries and limits, the faults and the figures: all that a reset makes anew."""

    def __init__(self, options: Options) -> None:
        self.started_with = options
        self._sender = Sender()
        self._start(options)

    def _start(self, options: Options) -> None:
        self.options = options
        self.world = build(options)
        self.deliveries = Deliveries(self.world, self._sender)
        self.limits = Limits(options)
        self.faults: list[Fault] = []
        self.stats = Stats()

    def reset(self, options: Options) -> None:
        """Begin anew: the seeded world of these options, no faults, no deliveries, all figures at zero."""
        old = self.deliveries
        self._start(options)
        old.stop()

    def reset_stats(self) -> None:
        self.stats = Stats()

    async def close(self) -> None:
        """Stop all deliveries, also those in flight."""
        self.deliveries.stop()
        await self.deliveries.stopped()
        await self._sender.close()
