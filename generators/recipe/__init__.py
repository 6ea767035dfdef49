"""What a generator is given: the recipe, the forest it plans, and the seeds of every draw."""
