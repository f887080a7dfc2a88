"""The synchronous client session: what a client does, without sockets, clocks or tasks."""

from viewstamp.client.backlog import Backlog
from viewstamp.client.completion import Completion, Failure
from viewstamp.client.session import ClientSession

__all__ = ["Backlog", "ClientSession", "Completion", "Failure"]
