"""docs/benchmarks.md's parts: what of the newest results it shows."""
