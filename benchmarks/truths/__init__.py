"""The parts of truth.py."""
