"""Real pictures, text and captions that need no download."""
