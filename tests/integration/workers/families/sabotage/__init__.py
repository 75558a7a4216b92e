"""A family whose jobs break the process that runs them."""
