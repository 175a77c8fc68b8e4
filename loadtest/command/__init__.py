"""The command `loraplex loadtest`, which is also `python -m loadtest`."""
