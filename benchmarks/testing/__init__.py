"""testers.py's parts: the load testers side by side, their figures, the claims."""
