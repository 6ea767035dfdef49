"""Opens weight files lazily and computes features of them, one tensor of all models at a time."""
