"""What a load test sends and when: decided from a seed alone, before anything is sent."""
