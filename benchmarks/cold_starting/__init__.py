"""cold_start.py's parts."""
