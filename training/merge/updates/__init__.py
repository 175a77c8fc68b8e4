"""What an adapter adds to a tensor of the base: one kind of update a file."""
