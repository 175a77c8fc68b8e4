"""Loraplex: one base model, a fine-tuned model for every customer."""

__version__ = "0.1.0"
