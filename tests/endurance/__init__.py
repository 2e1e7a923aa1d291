"""Programs that run for minutes against real processes: kills, storms, load, scale. `make soak` and others run them."""
