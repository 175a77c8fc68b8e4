"""Parts that adapters.py, fairness.py and cold_start.py share: engine, gateway, adapters, load."""
