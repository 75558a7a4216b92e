"""The commands, one module a subject; each function takes a session and the arguments and gives the exit code."""
