"""Claims of the MoTHer paper and questions about it, each measured with intervals over Model Trees."""
