"""The REST API: parse, call ``shared``, serialise."""
