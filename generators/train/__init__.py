"""Makes one model: trains it, merges others, or changes a copy."""
