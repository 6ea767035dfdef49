"""Tracks: which splits are averaged, the standing of each method on each track, and the picture of all tracks."""
