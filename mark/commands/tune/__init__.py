"""`mark tune`: a search with a budget, each trial a DVC experiment."""
