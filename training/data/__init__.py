"""Data files: read, checked, counted, split and versioned."""
