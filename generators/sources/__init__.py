"""Existing models as roots: local folders, the Hub, and small packages on PyPI."""
