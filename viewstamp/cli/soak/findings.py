"""What a soak can find wrong."""

from __future__ import annotations

from viewstamp.cli import errors

SAFETY = "safety"
LIVENESS = "liveness"
CRASH = "crash"
EXIT_CODES = {SAFETY: errors.SAFETY, LIVENESS: errors.LIVENESS, CRASH: errors.CRASH}


class Finding(Exception):  # noqa: N818 - it is what was found; it ends the soak by being raised
    """A property does not hold: `kind` is safety, liveness or crash, `sentence` says what and how."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(f"{kind}: {sentence}")
        self.kind = kind
        self.sentence = sentence
