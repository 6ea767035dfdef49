"""Fine-tunes small models into forests whose truth is known."""
