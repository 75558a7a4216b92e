"""What ``make run`` is made of: Callboard on one machine, for development and a first look."""
