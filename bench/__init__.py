"""Measurements. Each runs by one make target, is bounded in time, and stops by itself."""
