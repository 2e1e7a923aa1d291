"""The receiving side of webhooks: verify a delivery, read it, and give Prefect its events.

`python -m prefect_calendly.webhooks` runs the receiver.
"""

from prefect_calendly.webhooks.deliveries import Delivery, DeliveryError, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from prefect_calendly.webhooks.signature import SignatureError, sign, verify

__all__ = [
    "Delivery",
    "DeliveryError",
    "SignatureError",
    "events_of_delivery",
    "parse_delivery",
    "sign",
    "verify",
]
