"""The parts of the soak: the plan, the client that follows it, what is watched, the verdicts."""
