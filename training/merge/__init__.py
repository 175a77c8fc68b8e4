"""Adapters baked into base weights, several made one, and adapters taken out of fine-tunes."""
