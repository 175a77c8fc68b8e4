"""Tenants, keys, and the versions of their adapters; knows nothing of HTTP or of vLLM processes."""
