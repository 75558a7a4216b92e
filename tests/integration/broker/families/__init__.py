"""Families of the tests' own, discovered through CALLBOARD_FAMILIES."""
