"""Webhook deliveries: signed POSTs to the subscriptions, repeated until accepted, and disturbed on request."""

from prefect_calendly.sandbox.deliveries.dispatch import Deliveries
from prefect_calendly.sandbox.deliveries.sending import Sender

__all__ = ["Deliveries", "Sender"]
