"""The parts of the fake vLLM."""
