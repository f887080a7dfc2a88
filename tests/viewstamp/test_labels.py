"""Labels of large messages: what repeats another has its label, and is not sent beside it; nothing else has."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

from raft import AppendEntries, Raft
from tests.protocol.driven import entries
from transport.endpoint import Endpoint
from viewstamp.replica.answers import Answers
from viewstamp.replica.local import LocalSession
from viewstamp.wire import make_codec
from vsr import NewState

CLIENT = 1 << 33


class Kept:
    """An endpoint that remembers the labels of what it was to send."""

    def __init__(self) -> None:
        self.labels: list[Hashable] = []

    def send(self, peer: int, message: bytes, label: Hashable = None) -> None:
        self.labels.append(label)


def test_answers_to_different_questions_of_one_client_do_not_wait_for_each_other() -> None:
    kept = Kept()
    answers = Answers(1, cast("LocalSession", None), cast("Endpoint", kept), make_codec(Raft))
    for session, request in ((7, 1), (7, 2), (8, 1)):
        answers.reply(CLIENT, session, request, 0, 1, b"")
    for number in (1, 2):
        answers.query_reply(CLIENT, number, 0, 1, b"")
    assert None not in kept.labels
    assert len(set(kept.labels)) == 5
    answers.reply(CLIENT, 7, 1, 3, 9, b"")
    answers.query_reply(CLIENT, 1, 3, 9, b"")
    assert len(set(kept.labels)) == 5


def test_requests_of_a_window_do_not_wait_for_each_other() -> None:
    first, again = (AppendEntries(1, 1, 1, entries(2, 3, 1), commit, commit) for commit in (0, 1))
    behind = AppendEntries(1, 3, 1, entries(4, 5, 1), 0, 0)
    heartbeat = AppendEntries(1, 1, 1, (), 0, 0)
    assert first.label == again.label is not None
    assert first.label != behind.label
    assert heartbeat.label is None


def test_pages_of_a_log_do_not_wait_for_each_other_nor_for_those_of_an_earlier_question() -> None:
    first, again = (NewState(1, 77, 0, entries(1, 2), 9, commit) for commit in (0, 2))
    others = NewState(1, 77, 2, entries(3, 4), 9, 0), NewState(1, 78, 0, entries(1, 2), 9, 0)
    assert first.label == again.label is not None
    assert first.label not in [other.label for other in others]
