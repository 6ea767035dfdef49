"""Makes the leaderboard and its page from records."""
