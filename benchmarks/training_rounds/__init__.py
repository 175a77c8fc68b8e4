"""training.py's parts."""
