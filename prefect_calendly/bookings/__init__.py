"""What has happened to bookings: in a window, or since a cursor."""
