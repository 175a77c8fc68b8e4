"""The recipe: what one run trains, how, and what it must show."""
