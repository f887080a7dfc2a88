"""The sizes in which snapshots travel and are stored."""

CHUNK_BYTES = 24 * 1024
"""One message's share; with its header it fits a large loopback datagram, or some twenty small ones."""
BLOCK_BYTES = 40 * CHUNK_BYTES
"""One write to, or read from, a file: few enough calls, and little enough that others can have the disk in between."""
