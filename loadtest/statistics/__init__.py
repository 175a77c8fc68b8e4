"""Samples in, numbers out: nothing here sends, waits, reads a clock or a file."""
