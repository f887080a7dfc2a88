"""Applies the agreed entries to one machine and its client sessions: the same bytes out on every replica."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from inspect import ismemberdescriptor
from itertools import chain
from typing import Any, Final, TypeAlias

from statemachine.command import decode_each_body, decode_each_command, decode_parts
from statemachine.context import Context
from statemachine.defects import Defects
from statemachine.errors import (
    ApplyOrderError,
    CommandError,
    ReplyTooLargeError,
    SnapshotError,
    ValueDecodingError,
    ValueEncodingError,
)
from statemachine.history import History
from statemachine.machine import StateMachine, commands_of, queries_of
from statemachine.outcome import (
    MALFORMED_REPLY,
    MAXIMUM_REPLY_BYTES,
    NO_ROOM_REPLY,
    NOTHING_REPLY,
    TOO_LARGE_REPLY,
    UNKNOWN_COMMAND_REPLY,
    WRONG_ARGUMENTS_REPLY,
    encode_failed,
    encode_listed,
    encode_raised,
    encode_returned,
    known_errors,
)
from statemachine.sessions import (
    MAXIMUM_REPLIES_BYTES,
    MAXIMUM_SESSIONS,
    WINDOW,
    Sessions,
    opened_at,
    session_number,
)
from statemachine.snapshot_stream import StreamReader, write_stream

COMMAND = 1
REGISTER = 2

AgreedEntry: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, bytes, bytes]
"""An entry: op, view, kind, session, request, mark, stamp, seed, format version, body, and all of it in bytes.

The stamp is the agreed time in nanoseconds since the Unix epoch, and may be negative. View and version are not used.
"""

_KIND: Final = 2
_BODY: Final = 9

# In the reply to a list: what the reply of each command may take at least, and the head in front of it at most.
_SHARE_BYTES = len(TOO_LARGE_REPLY)
_HEAD_BYTES = 5

# Gathered commands are executed as long as their replies take no more than that, and no more than this part of the
# room that there is for large replies. Each may have a reply as long as if it were alone.
GATHERED_REPLY_BYTES = 64 * 1024
_GATHERED_PART = 16

# function, least and most arguments, atomic
_Operation = tuple[Callable[..., object], int, int, bool]


class Executor:
    """One replica's machine, its client sessions, and how far both have come.

    Takes over `machine`, which must be fresh. The bounds (see `Sessions`) must be the same on all replicas.

    Raises:
      SnapshotError: the machine's state cannot be encoded. Said here rather than at the first snapshot in production.
    """

    def __init__(
        self,
        machine: StateMachine,
        *,
        max_sessions: int = MAXIMUM_SESSIONS,
        window: int = WINDOW,
        max_reply_bytes: int = MAXIMUM_REPLIES_BYTES,
    ) -> None:
        self.machine = machine
        self.sessions = Sessions(max_sessions, window, max_reply_bytes)
        self.applied = 0
        """The op-number of the last applied entry."""
        self._history = History()
        self._defects = Defects()
        self._known: dict[str, type[CommandError]] | None = None  # by name, what callers know; made when one is raised
        self._context = Context()
        machine.context = self._context
        machine_class = type(machine)
        self._commands: dict[str, _Operation] = {
            name: (command.function, command.minimum, command.maximum, command.atomic)
            for name, command in commands_of(machine_class).items()
        }
        self._queries: dict[str, _Operation] = {
            name: (query.function, query.minimum, query.maximum, False)
            for name, query in queries_of(machine_class).items()
        }
        if machine_class.snapshot is StateMachine.snapshot:
            machine.snapshot()

    @property
    def digest(self) -> bytes:
        """A hash over all entries and replies so far; equal on all replicas at equal `applied`."""
        return self._history.digest

    def apply(self, entries: Sequence[AgreedEntry], over: Callable[[], bool] | None = None) -> list[bytes]:
        """Apply the next entries, in order, and return their replies, to be read with `decode_outcome`.

        Only the first one or some, if `over()`, asked behind each, is true: there are as many replies.

        Kind 1 is a command, or several which are executed one after the other, each whatever became of those before,
        with one reply for all; gathered ones (see `encode_gathered`) only as long as there is room. Kind 2 opens a
        session whose number, of its op and the request's number as nonce, the reply returns; any other changes nothing.
        What a command raises is its reply, as is a body that is no command: entries are agreed, and each replica must
        get past them, equally.

        Raises:
          ApplyOrderError: an op is not the one after `applied`.
          MemoryError, RecursionError, and what is no Exception: these depend on the process, not on the entry. The
            replica must stop; the executor can no longer be used.
        """
        records: list[bytes] = []
        admit, record = self.sessions.admit, self.sessions.record
        execute, begin = self._execute, self._context.begin
        bodies = iter(decode_each_body([entry[_BODY] for entry in entries if entry[_KIND] == COMMAND]))
        try:
            for op, _, kind, session, request, mark, stamp, seed, _, _, encoded in entries:
                if op != self.applied + 1:
                    raise ApplyOrderError(f"entry {op} cannot be applied after {self.applied}")
                if kind == COMMAND:
                    parts = next(bodies)
                    known = admit(session, request, mark)
                    if known is None:
                        begin(op, session, stamp, seed)
                        reply = execute(parts)
                        record(session, request, reply)
                    else:
                        reply = known
                elif kind == REGISTER:
                    number = session_number(op, request)
                    self.sessions.register(number)
                    reply = encode_returned(number)
                else:
                    reply = NOTHING_REPLY
                records += encoded, reply
                self.applied = op
                if over is not None and over():
                    break
        finally:
            self._context.end()
            self._history.extend(records)
        return records[1::2]

    def query(self, body: bytes) -> bytes:
        """Ask the machine, changing nothing; returns a reply as `apply` does.

        MemoryError and RecursionError are its result here: nothing was changed and no other replica asks, but whoever
        asked would ask the next one, and the next, until none is left. What is no Exception propagates, as there.
        """
        try:
            return self._call(self._queries, decode_parts(body), MAXIMUM_REPLY_BYTES)
        except ValueDecodingError:
            return MALFORMED_REPLY  # also for a list: a caller with several queries asks several
        except (MemoryError, RecursionError) as error:
            return encode_failed(type(error).__name__)

    def answer(self, session: int, request: int, mark: int) -> bytes | None:
        """The reply that a request already has, or None if it must be ordered; changes nothing.

        A session opened beyond `applied` is one that this replica has not come to yet: the log decides.
        """
        if opened_at(session) > self.applied:
            return None
        return self.sessions.lookup(session, request, mark)

    def snapshot(self) -> Iterator[bytes]:
        """Everything as of this call, in pieces; only their concatenation counts. Commands may go on meanwhile."""
        state = self.machine.snapshot()
        machine = iter((state,)) if isinstance(state, bytes) else iter(state)
        # A generator runs nothing before its first chunk is asked for: what it captures later would be of later.
        first = next(machine, b"")
        sections = ((self._history.snapshot(),), self.sessions.snapshot(), chain((first,), machine))
        return write_stream(self.applied, self._history.digest, sections)

    def state_digest(self) -> bytes:
        """A hash over the whole state (machine, sessions, progress); equal on all replicas at equal `applied`."""
        digest = b""
        for piece in self.snapshot():
            digest = piece
        return digest

    def restore(self, pieces: Iterable[bytes]) -> bytes:
        """Replace everything by a snapshot, in pieces cut anywhere; returns the digest at its end, which is right.

        Raises:
          SnapshotError: it is not a whole, undamaged snapshot of a replica with the same bounds. This executor
            and its machine may then be half restored, and must be discarded.
        """
        reader = StreamReader(pieces)
        applied, digest = reader.header()
        self._history.restore(b"".join(reader.section()), applied)
        if self._history.digest != digest:
            raise SnapshotError("the history of the snapshot is not the one that its header names")
        sessions = reader.section()
        self.sessions.restore(sessions)
        _exhaust(sessions, "the client sessions")
        machine = reader.section()
        self.machine.restore(machine)
        _exhaust(machine, "the state machine")
        whole = reader.finish()
        self.applied = applied
        return whole

    def _execute(self, parts: list[Any] | None) -> bytes:
        if parts is None:
            return MALFORMED_REPLY
        if type(parts[0]) is str:
            return self._call(self._commands, parts, MAXIMUM_REPLY_BYTES)
        return self._run_list(parts) if parts[0] is not None else self._run_gathered(parts[1:])

    def _run_list(self, encodings: list[bytes]) -> bytes:
        call, commands, go_on = self._call, self._commands, self._context.go_on
        # Each reply has its share, so that there is room for that of the last one; longer ones take from the rest.
        rest = MAXIMUM_REPLY_BYTES - 1 - _HEAD_BYTES - len(encodings) * (_HEAD_BYTES + _SHARE_BYTES)
        replies = []
        for parts in decode_each_command(encodings):
            reply = MALFORMED_REPLY if parts is None else call(commands, parts, _SHARE_BYTES + rest)
            if len(reply) > _SHARE_BYTES:
                if len(reply) > _SHARE_BYTES + rest:
                    reply = TOO_LARGE_REPLY  # what the command raised does not fit
                else:
                    rest -= len(reply) - _SHARE_BYTES
            replies.append(reply)
            go_on()
        return encode_listed(replies)

    def _run_gathered(self, encodings: list[bytes]) -> bytes:
        """None of them may fare worse than alone: the replies of the others must not take the room of its own."""
        call, commands, go_on = self._call, self._commands, self._context.go_on
        room = min(GATHERED_REPLY_BYTES, self.sessions.max_reply_bytes // _GATHERED_PART)
        replies = []
        for parts in decode_each_command(encodings):
            if room < 0:
                replies.append(NO_ROOM_REPLY)
                continue
            reply = MALFORMED_REPLY if parts is None else call(commands, parts, MAXIMUM_REPLY_BYTES)
            room -= len(reply)
            replies.append(reply)
            go_on()
        return encode_listed(replies)

    def _call(self, table: dict[str, _Operation], parts: list[Any], maximum_bytes: int) -> bytes:
        operation = table.get(parts[0])
        if operation is None:
            self._tell_unknown(table, parts[0])
            return UNKNOWN_COMMAND_REPLY
        function, minimum, maximum, atomic = operation
        if not minimum < len(parts) <= maximum + 1:
            self._tell_unknown(table, parts[0])
            return WRONG_ARGUMENTS_REPLY
        parts[0] = self.machine  # where the name was: the method's own first argument
        try:
            if atomic:
                return _run_atomically(function, self.machine, parts, maximum_bytes)
            return encode_returned(function(*parts), maximum_bytes)
        except CommandError as error:
            return self._raised(function, error)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001  # a defect in a command is its result, or it would stop every replica
            self._defects.tell(function, error)
            return encode_failed(type(error).__name__)

    def _raised(self, function: Callable[..., object], error: CommandError) -> bytes:
        error_class, machine_class = type(error), type(self.machine)
        if self._known is None:
            # Only now: the module of the class may not have come to its end when this was made.
            self._known = {each.__name__: each for each in reversed([*known_errors(machine_class)])}
        known = self._known.get(error_class.__name__)
        if known is not error_class:
            self._defects.tell_unlisted(function, error_class, machine_class, known)
        try:
            return encode_raised(error)
        except (ValueEncodingError, ReplyTooLargeError) as fault:  # its fields cannot travel
            self._defects.tell(function, error, fault)
            return encode_failed(error_class.__name__)

    def _tell_unknown(self, table: dict[str, _Operation], name: str) -> None:
        if table is self._commands:  # A query that nobody has changes nothing anywhere.
            self._defects.tell_unknown(type(self.machine).__name__, name)


def _run_atomically(
    function: Callable[..., object], machine: StateMachine, parts: list[Any], maximum_bytes: int
) -> bytes:
    # What refers back to the machine, as a table of its methods does, must go on doing so, and not to a copy of it.
    kept = {id(each): each for each in (machine, machine.context)}
    attributes, in_slots = deepcopy((vars(machine), _in_slots(machine)), kept)
    try:
        return encode_returned(function(*parts), maximum_bytes)
    except BaseException:
        vars(machine).clear()
        vars(machine).update(attributes)
        for name in _in_slots(machine):
            object.__delattr__(machine, name)
        for name, value in in_slots.items():
            object.__setattr__(machine, name, value)
        raise


def _in_slots(machine: StateMachine) -> dict[str, object]:
    """The attributes that a class with `__slots__` keeps outside of `vars`."""
    classes = [vars(base) for base in type(machine).__mro__ if base is not StateMachine and "__slots__" in vars(base)]
    names = [name for attributes in classes for name, value in attributes.items() if ismemberdescriptor(value)]
    return {name: getattr(machine, name) for name in names if hasattr(machine, name)}


def _exhaust(chunks: Iterator[bytes], owner: str) -> None:
    if next(chunks, None) is not None:
        raise SnapshotError(f"{owner} did not take all of the snapshot")
