"""The record of one run, and the files that records are kept in."""
