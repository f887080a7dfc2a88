"""Viewstamp: state machine replication for Python services."""
