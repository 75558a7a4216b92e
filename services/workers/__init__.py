"""The worker deployment: one process serves one family, or all in development."""
