"""What a data set says about itself: the card, croissant.json, and the measured shortcuts in its weights."""
