"""The words of one line of a scenario, taken one by one with precise errors."""

from __future__ import annotations

from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.scenario_world import Filter

_UNITS = {"ms": MILLISECOND, "s": SECOND}


class ScenarioSyntaxError(ValueError):
    """A line of a scenario that cannot be understood; says what was expected."""


class Words:
    """A cursor over the words of a line."""

    def __init__(self, line: str) -> None:
        self._words = line.split()
        self._next = 0

    @property
    def left(self) -> bool:
        """Whether any word is left."""
        return self._next < len(self._words)

    def word(self, what: str) -> str:
        """The next word, which is `what`."""
        if not self.left:
            raise ScenarioSyntaxError(f"expected {what} at the end of the line")
        self._next += 1
        return self._words[self._next - 1]

    def number(self, what: str) -> int:
        """The next word, a number."""
        word = self.word(what)
        if not word.isdecimal():
            raise ScenarioSyntaxError(f"expected {what} (a number), found {word!r}")
        return int(word)

    def duration_ns(self) -> int:
        """The next word, a time such as `400ms` or `2s`, in nanoseconds."""
        word = self.word("a time, such as 400ms")
        digits = word.rstrip("ms")
        unit = _UNITS.get(word[len(digits) :])
        if unit is None or not digits.isdecimal():
            raise ScenarioSyntaxError(f"expected a time such as 400ms or 2s, found {word!r}")
        return int(digits) * unit

    def skip(self, word: str) -> None:
        """The next word must be this one."""
        found = self.word(repr(word))
        if found != word:
            raise ScenarioSyntaxError(f"expected {word!r}, found {found!r}")

    def take(self, word: str) -> bool:
        """Take the next word if it is this one."""
        if self.left and self._words[self._next] == word:
            self._next += 1
            return True
        return False

    def until(self, end: str) -> list[str]:
        """All words before `end`, which stays."""
        taken: list[str] = []
        while self.left and self._words[self._next] != end:
            taken.append(self.word("a word"))
        return taken

    def rest(self) -> list[str]:
        """All words that are left."""
        return self.until("")

    def member(self, known: tuple[int, ...]) -> int:
        """The next word, a member's number."""
        member = self.number("a member")
        if member not in known:
            raise ScenarioSyntaxError(f"no member {member}; there are {', '.join(map(str, known))}")
        return member

    def members(self, known: tuple[int, ...]) -> list[int]:
        """All words that are left, at least one: members' numbers."""
        found = [self.member(known)]
        while self.left:
            found.append(self.member(known))
        return found

    def filter(self, known: tuple[int, ...]) -> Filter:
        """`[FROM -> TO] [KIND]`; `*` stands for any member."""
        source = to = 0
        if self.left and (self._words[self._next] == "*" or self._words[self._next].isdecimal()):
            source = self._any_or_member(known)
            self.skip("->")
            to = self._any_or_member(known)
        kind = self.word("a kind of message").upper() if self.left else ""
        return Filter(source, to, kind)

    def _any_or_member(self, known: tuple[int, ...]) -> int:
        return 0 if self.take("*") else self.member(known)

    def end(self) -> None:
        """No word may be left."""
        if self.left:
            raise ScenarioSyntaxError(f"did not expect {' '.join(self.rest())!r}")
