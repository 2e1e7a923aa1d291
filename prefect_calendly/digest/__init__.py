"""Who can be booked when."""
