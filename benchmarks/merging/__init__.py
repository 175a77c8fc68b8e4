"""merge.py's parts."""
