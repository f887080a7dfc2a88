"""Scenarios: small texts that drive a protocol step by step, with what happens written under each step.

A scenario says which messages arrive, which are lost, held back or come twice, who crashes, and what must be true then.
Lines that begin with `|` are the transcript: they are compared with what happens, and written anew by

    python -m viewstamp.simulation.scenario --rewrite FILES

Whatever the scenario, three things are checked from outside: no two members commit different entries at one op, no
read misses what was acknowledged before it was asked, and no read is answered twice.

    protocol vsr              the protocol's name in cluster files
    page 1                    no message carries more entries than that; before `members`
    members 3                 and they start, on blank disks
    request 1 as a b          propose requests called a and b at member 1, in one turn
    read at 2 as r            ask member 2 for a linearizable read
    deliver                   deliver messages in the order in which they were sent until there are none, and snapshots
    deliver 1 -> 2 prepare    only these, and what else matches meanwhile; `*` is any member
    drop 1 -> 2               from now on the network loses these; `drop 1 -> *`
    isolate 1                 drop all from and to member 1; `isolate 1 inbound`, `isolate 1 outbound`
    heal                      the network loses nothing any more
    lose 1 -> 2 prepare       lose what is under way now
    hold 2 -> 3 prepareok     keep these back when they would arrive
    release                   hold nothing any more, and send on what was held; `release 2 -> 3 prepareok`
    replay 2 -> 3 prepareok   send copies of every such message ever sent
    tick 400ms                let time pass and wake members at their deadlines, delivering nothing; `tick 400ms at 2`
    run 400ms                 the same, delivering all messages
    crash 2                   the process ends, with the writes under way; `crash 2 keeping 1` keeps the first of them
    lose disk 2               the process ends, and its disk is blank
    restart 2                 start again on what the disk holds
    snapshot 1                member 1 takes a snapshot of what it has committed, and drops its log up to there;
                              `snapshot 1 keeping 2` keeps the last 2 entries of that
    hold snapshots 3          snapshots that member 3 needs do not come; `release snapshots 3`
    lose snapshot 3           what member 3 needs cannot be had from its source
    resign 1                  ask a member to stop on purpose
    hold disk 2               writes stay under way; `release disk 2`
    show                      a line for each member
    expect ...                committed a at 1 2, uncommitted a at 3, acked a, unacked a, served r, failed r, waiting r,
                              primary 2, primary none, view 1 at 2 3, status normal at 2, commit 2 at 1,
                              log a b at 1 2 (what is in memory), snapshot 4 at 1 (on its disk; 0 for none)

`quietly` after a command leaves its messages out of the transcript.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import unified_diff
from pathlib import Path

from viewstamp.protocol import InvariantError, Limits
from viewstamp.registry import UnknownProtocolError, protocol_class
from viewstamp.simulation.scenario_expect import disappointment
from viewstamp.simulation.scenario_text import member_line
from viewstamp.simulation.scenario_words import ScenarioSyntaxError, Words
from viewstamp.simulation.scenario_world import Filter, OutsideError, ScenarioWorld

_MARGIN = "    | "


class ScenarioError(Exception):
    """A scenario does not go as it says. Names the file and the line."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class Scenario:
    """A scenario as it runs, one command at a time."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._protocol = "vsr"
        self._limits = Limits()
        self._world: ScenarioWorld | None = None
        self._commands: dict[str, Callable[[Words], None]] = {
            "crash": self._crash,
            "deliver": self._deliver,
            "drop": self._drop,
            "expect": self._expect,
            "heal": self._heal,
            "hold": self._hold,
            "isolate": self._isolate,
            "lose": self._lose,
            "members": self._members,
            "page": self._page,
            "protocol": self._choose_protocol,
            "read": self._read,
            "release": self._release,
            "replay": self._replay,
            "request": self._request,
            "resign": self._resign,
            "restart": self._restart,
            "run": self._run,
            "show": self._show,
            "snapshot": self._snapshot,
            "tick": self._tick,
        }

    def execute(self, line: str) -> list[str]:
        """Carry out one line, without its comment; returns what happened."""
        self.lines = []
        quietly = line.split()[-1] == "quietly"
        words = Words(line.rsplit(None, 1)[0] if quietly else line)
        command = words.word("a command")
        action = self._commands.get(command)
        if action is None:
            raise ScenarioSyntaxError(f"no command is called {command!r}; known: {', '.join(self._commands)}")
        if self._world is not None:
            self._world.quiet = quietly
        action(words)
        words.end()
        if self._world is not None and (unsaid := self._world.take_unsaid()):
            self.lines.append(f"({unsaid} messages)")
        return self.lines

    @property
    def world(self) -> ScenarioWorld:
        """The members, which `members` starts."""
        if self._world is None:
            raise ScenarioSyntaxError("a scenario begins with `members N`")
        return self._world

    @property
    def _known(self) -> tuple[int, ...]:
        return self.world.configuration.members

    def _choose_protocol(self, words: Words) -> None:
        self._protocol = words.word("a protocol's name")

    def _page(self, words: Words) -> None:
        if self._world is not None:
            raise ScenarioSyntaxError("`page` comes before `members`")
        self._limits = Limits(page_entries=max(1, words.number("how many entries")))

    def _members(self, words: Words) -> None:
        size = words.number("how many members")
        try:
            self._world = ScenarioWorld(protocol_class(self._protocol), size, self._limits, self._say)
        except UnknownProtocolError as unknown:
            raise ScenarioSyntaxError(str(unknown)) from unknown

    def _say(self, line: str) -> None:
        self.lines.append(line)

    # Clients.

    def _request(self, words: Words) -> None:
        member = words.member(self._known)
        words.skip("as")
        names = words.rest()
        for name in names or [""]:
            if not name or name in self.world.requests or name in ("at", "none"):
                raise ScenarioSyntaxError(f"expected new names for the requests, found {name!r}")
        self.world.request(member, names)

    def _read(self, words: Words) -> None:
        words.skip("at")
        member = words.member(self._known)
        words.skip("as")
        name = words.word("a name for the read")
        if name in self.world.reads:
            raise ScenarioSyntaxError(f"there is a read {name!r} already")
        self.world.read(member, name)

    # The network.

    def _deliver(self, words: Words) -> None:
        self.world.deliver(words.filter(self._known) if words.left else None)

    def _drop(self, words: Words) -> None:
        self._cut(words.filter(self._known))

    def _isolate(self, words: Words) -> None:
        member = words.member(self._known)
        if not words.take("outbound"):
            self._cut(Filter(0, member))
        if not words.take("inbound"):
            self._cut(Filter(member, 0))

    def _cut(self, wanted: Filter) -> None:
        if wanted.kind:
            raise ScenarioSyntaxError("a link drops all kinds of messages; `lose` and `hold` choose")
        for source in self._known:
            for to in self._known:
                if source != to and wanted.source in (0, source) and wanted.to in (0, to):
                    self.world.cuts.add((source, to))

    def _heal(self, words: Words) -> None:
        self.world.cuts.clear()

    def _hold(self, words: Words) -> None:
        if words.take("disk"):
            self.world.members[words.member(self._known)].disk_held = True
        elif words.take("snapshots"):
            self.world.hold_snapshots(words.member(self._known))
        else:
            self.world.holds.append(words.filter(self._known))

    def _release(self, words: Words) -> None:
        if words.take("disk"):
            self.world.release_disk(words.member(self._known))
        elif words.take("snapshots"):
            self.world.release_snapshots(words.member(self._known))
        else:
            self.world.release(words.filter(self._known) if words.left else None)

    def _lose(self, words: Words) -> None:
        if words.take("disk"):
            self.world.lose_disk(words.member(self._known))
            return
        if words.take("snapshot"):
            member = words.member(self._known)
            if not self.world.lose_snapshot(member):
                raise ScenarioSyntaxError(f"member {member} needs no snapshot")
            return
        wanted = words.filter(self._known)
        lost = [flight for flight in self.world.queue if wanted.matches(flight)]
        for flight in lost:
            self.world.queue.remove(flight)
        self._say(f"{len(lost)} lost")

    def _replay(self, words: Words) -> None:
        self._say(f"{self.world.replay(words.filter(self._known))} copies")

    # Time.

    def _tick(self, words: Words) -> None:
        self._pass_time(words, delivering=False)

    def _run(self, words: Words) -> None:
        self._pass_time(words, delivering=True)

    def _pass_time(self, words: Words, *, delivering: bool) -> None:
        duration_ns = words.duration_ns()
        members = words.members(self._known) if words.take("at") else list(self._known)
        self.world.tick(duration_ns, members, delivering=delivering)

    # Members.

    def _crash(self, words: Words) -> None:
        member = words.member(self._known)
        keeping = words.number("how many writes") if words.take("keeping") else 0
        lost = self.world.crash(member, keeping)
        if lost:
            self._say(f"{lost} writes lost")

    def _restart(self, words: Words) -> None:
        member = words.member(self._known)
        if self.world.members[member].core is not None:
            raise ScenarioSyntaxError(f"member {member} runs already")
        self.world.start(member)

    def _snapshot(self, words: Words) -> None:
        member = words.member(self._known)
        keep = words.number("how many entries") if words.take("keeping") else 0
        if not self.world.snapshot(member, keep):
            raise ScenarioSyntaxError(f"member {member} is down, its disk is busy, or it has committed nothing more")

    def _resign(self, words: Words) -> None:
        self.world.resign(words.member(self._known))

    # Looking.

    def _show(self, words: Words) -> None:
        for number, member in self.world.members.items():
            self._say(member_line(number, member.core))

    def _expect(self, words: Words) -> None:
        problem = disappointment(self.world, words)
        if problem:
            raise OutsideError(problem)


def transcribe(text: str, path: str = "scenario") -> str:
    """Run a scenario and return its text with the transcript that belongs under its commands.

    Raises:
      ScenarioError: a line cannot be understood, an expectation does not hold, or the cluster broke its word.
    """
    scenario = Scenario()
    out: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("|"):
            continue
        out.append(line.rstrip())
        command = line.partition("#")[0].strip()
        if not command:
            continue
        try:
            happened = scenario.execute(command)
        except (ScenarioSyntaxError, OutsideError, InvariantError) as problem:
            before = "".join(f"\n{_MARGIN}{said}" for said in scenario.lines)
            raise ScenarioError(path, number, f"{problem} (in `{command}`){before}") from problem
        out += [_MARGIN + said for said in happened]
    return "\n".join(out) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare scenarios with what happens, or rewrite them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m viewstamp.simulation.scenario", description=transcribe.__doc__)
    parser.add_argument("--rewrite", action="store_true", help="write the transcripts anew")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    code = 0
    for path in options.files:
        text = path.read_text(encoding="utf-8")
        try:
            actual = transcribe(text, str(path))
        except ScenarioError as problem:
            sys.stderr.write(f"{problem}\n")
            code = 1
            continue
        if actual != text and options.rewrite:
            path.write_text(actual, encoding="utf-8")
        elif actual != text:
            code = 1
            sys.stdout.writelines(
                unified_diff(text.splitlines(True), actual.splitlines(True), str(path), "what happens")
            )
    return code


if __name__ == "__main__":
    sys.exit(main())
