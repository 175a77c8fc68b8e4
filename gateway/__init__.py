"""The FastAPI gateway in front of vLLM, and the supervisor that runs both."""
