"""The regime map: for how many true edges each direction score is right, and which fields of the edges this depends on."""
