"""Which bookings are unwanted, and canceling them."""
