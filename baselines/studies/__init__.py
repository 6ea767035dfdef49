"""Studies that vary methods: ablations, claims of the MoTHer paper and questions about it, the map of direction scores."""
