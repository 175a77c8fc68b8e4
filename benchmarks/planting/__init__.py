"""planted.py's parts."""
