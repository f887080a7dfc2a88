"""Whole clusters in one process with no real time: every run is drawn from a seed, and replays to the byte."""
