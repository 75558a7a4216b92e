"""The queue engine: honest job states in Redis, one Lua script a transition."""
