"""What a finished data set says of itself: its card, its Croissant metadata, its known shortcuts."""
