"""What is wrong with a value."""

from __future__ import annotations


class Mistake(Exception):
    """Why a value cannot go into its column; reads on after the column's name ("price is not a number")."""
