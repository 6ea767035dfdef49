"""The claims of the MoTHer paper, each measured again with intervals over Model Trees."""
