"""Encoders of text, with published models as roots."""
