"""What methods are built from: distances, direction scores, ranks, spanning trees, clustering."""
