"""90 % prediction intervals from held-out runs."""
