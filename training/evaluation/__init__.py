"""What a model answers, scored and compared."""
