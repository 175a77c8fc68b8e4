"""adapters.py's parts."""
