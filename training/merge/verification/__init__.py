"""Whether a merged model answers as base and adapter do, by libraries that had no part in it."""
