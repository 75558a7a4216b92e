"""Calls of the systems that Callboard replaces, as their documents print them; one thin module a document."""
