"""fairness.py's parts."""
