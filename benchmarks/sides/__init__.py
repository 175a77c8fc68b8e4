"""The parts of the benchmarks: who is measured, with what, and how the figures are put together."""
