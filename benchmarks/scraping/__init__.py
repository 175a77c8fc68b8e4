"""What the scrape benchmark is made of."""
