"""MoTHer and everything it should be compared with."""
