"""What the load tester shows in a terminal; it reads figures and computes none."""
