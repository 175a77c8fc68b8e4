"""What a run came to: as JSON for programs, as one HTML page for people."""
