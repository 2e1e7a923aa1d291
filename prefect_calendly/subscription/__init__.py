"""Keeping webhook deliveries coming: a subscription as it should be, its signing key, and bookings that were missed."""
