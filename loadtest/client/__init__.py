"""A lean client of OpenAI-compatible servers that times every token event of an answer."""
