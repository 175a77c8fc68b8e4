"""What a run leaves: result.json, the page, the tables, and what a Prometheus is told."""
