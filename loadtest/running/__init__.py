"""Runs a workload against a target: sends in time, watches itself, ends in order."""
