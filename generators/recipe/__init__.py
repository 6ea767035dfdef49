"""What a generator is given: the recipe, and the forest that is planned from it."""
