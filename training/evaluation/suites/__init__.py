"""Texts and instructions of general ability, written for this repository."""
