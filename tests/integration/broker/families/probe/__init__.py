"""A family whose jobs write down what happens to them."""
