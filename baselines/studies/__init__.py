"""Studies that vary methods: ablations, the claims of the MoTHer paper, the map of direction scores."""
