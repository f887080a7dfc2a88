"""Recovery of a replica that lost its disk (VRR section 4.3), with incarnation vectors.

The replica knows nothing and must not guess: what it promised before is held by others. It asks all, and needs
answers of n - quorum + 1 others (they meet every quorum that it was part of), among them the primary of the highest
view that any of them is in. Each of those has first made its new incarnation durable, so that a promise of the old one,
still under way, is not counted together with theirs (Michael et al., DISC 2017).
"""

from __future__ import annotations

from vsr import state_transfer
from vsr.messages import Recovery, RecoveryResponse
from vsr.replica import Purpose, VsrReplica, VsrStatus

_UNASKED = 0
"""The nonce of an answer to no question."""


def tick(r: VsrReplica) -> None:
    """Ask all, again and again, as one question: an answer can take longer than the pause, on a slow disk.

    Only a log that was not to be had is a reason for another question.
    """
    if r.status is not VsrStatus.RECOVERING or r.now.monotonic < r.recovery_at:
        return
    if r.fetch is not None or not r.recovery_nonce:
        r.fetch = None
        r.responses = {}
        r.recovery_nonce = r.random.getrandbits(64)
    r.recovery_at = r.now.monotonic + 4 * r.timeouts.retry
    r.broadcast(Recovery(r.recovery_nonce))


def on_recovery(r: VsrReplica, sender: int, incarnation: int, message: Recovery) -> None:
    """A member asks for its state. Only a normal replica answers, after the new incarnation is durable here.

    An incarnation older than the one known is answered too: the vector tells the asker to take a larger one.
    """
    if r.status is not VsrStatus.NORMAL or r.quiet:
        r.ignore("RECOVERY while not normal")
        return
    if incarnation > r.incarnations[sender]:
        r.learn_incarnation(sender, incarnation)
    _answer(r, sender, message.nonce)


def tell_superseded(r: VsrReplica, sender: int) -> None:
    """A backup's message that counts for nothing: it has an old copy of a directory that was lost and replaced since.

    Nothing else that reaches a backup of this view carries a vector: it would go on, as it believes, and fall behind.
    """
    if r.status is VsrStatus.NORMAL and not r.quiet:
        _answer(r, sender, _UNASKED)


def _answer(r: VsrReplica, sender: int, nonce: int) -> None:
    if r.incarnations != r.saved_incarnations:
        r.save()
    r.promise(sender, RecoveryResponse(r.view, nonce, r.log.op, r.commit, r.vector))


def on_recovery_response(r: VsrReplica, sender: int, message: RecoveryResponse) -> None:
    """Count the members that answered; with enough of them, fetch the log of the highest view's primary."""
    # A member that has asked nothing yet has no nonce either: what it was told before its disk was lost once more is no
    # answer.
    asked = message.nonce == r.recovery_nonce != _UNASKED
    if r.status is not VsrStatus.RECOVERING or not asked or r.fetch is not None:
        r.ignore("RECOVERYRESPONSE that was not asked for")
        return
    if r.superseded_by:
        # As this incarnation it must not come back: its peers ignore it as a stale one. The body takes a newer one.
        r.ignore("RECOVERYRESPONSE to a superseded incarnation")
        return
    known = r.responses.get(sender)
    # Answers that straddle a view change are of no use together: the newest of each member counts, whichever came last.
    if known is None or (message.view, message.op) > (known.view, known.op):
        r.responses[sender] = message
    if len(r.responses) < r.configuration.recovery_quorum:
        return
    view = max(response.view for response in r.responses.values())
    primary = r.primary_of(view)
    answer = r.responses.get(primary)
    if answer is None or answer.view != view:
        return  # Only that view's primary surely has what was committed in it.
    state_transfer.begin(r, Purpose.RECOVER, view, primary, answer.op, 0)
    r.fetch_progressed()
    state_transfer.finish_if_complete(r)
