"""Version 9 of Linea: a fitted probability distribution over the rooted forests of related models."""
