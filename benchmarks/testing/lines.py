"""What a tester that is kept running says on a line of its own, among whatever else it prints."""

READY, ENDED = "tester: ready", "tester: ended"
