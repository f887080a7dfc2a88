"""The Trio shell: sockets, clock, disk and callers around the synchronous replica and client session."""
