"""The library that every Callboard service stands on: contracts, engine, broker, storage, client."""
