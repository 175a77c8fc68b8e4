"""From a JSONL file to an adapter."""
