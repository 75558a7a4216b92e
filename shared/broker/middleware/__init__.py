"""Middleware of JobBroker, one concern a file."""
