"""The synchronous client session: what a client does, without sockets, clocks or tasks."""

from viewstamp.client.session import ClientSession, Completion, Failure

__all__ = ["ClientSession", "Completion", "Failure"]
