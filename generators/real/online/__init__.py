"""Families whose weights are on the Hub or on other servers: a user needs a network."""
