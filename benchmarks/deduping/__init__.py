"""The parts of dedupe.py."""
