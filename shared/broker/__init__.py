"""JobBroker: a Dramatiq broker over the engine."""
