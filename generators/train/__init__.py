"""Makes one model: trains it, merges others, or transforms a copy."""
