"""Stories of members that are not heard, or not understood, or that have forgotten what they asked."""

from __future__ import annotations

from collections.abc import Iterator

from transport.codec import CodecError, MessageCodec
from transport.fragment_format import PART
from transport.frame import FrameIdentity, Framer, incarnation_in
from transport.interface import Address
from transport.packing import WHOLE
from viewstamp.protocol import MILLISECOND
from viewstamp.registry import protocol_class
from viewstamp.replica import Replica
from viewstamp.simulation.aftermath import Aftermath
from viewstamp.simulation.load import draw_client
from viewstamp.simulation.trace_messages import parts_of
from viewstamp.wire import make_codec

_GARBLED, _GARBLED_BYTES = 4, 100


class Misunderstandings(Aftermath):
    """More stories that wait for their moment."""

    def gibberish(self) -> None:
        """What members have said arrives again with right frames and one byte changed: what nobody can read then."""
        draw, codec = self.draw, make_codec(protocol_class(self.world.cluster.protocol))
        for member in self.members:
            words = self._last_words(member, 60)
            for destination, datagram in draw.sample(words, min(_GARBLED, len(words))):
                for garbled in self._garble(codec, member, datagram):
                    self.deliver_late(draw, self.names[member], destination, garbled)

    def _garble(self, codec: MessageCodec, member: int, datagram: bytes) -> Iterator[bytes]:
        """Datagrams with one of its messages, a byte of it changed: those of them that nobody can read."""
        cluster, draw = self.world.cluster, self.draw
        framer = Framer(FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, member, incarnation_in(datagram)))
        message = max((body for kind, body in parts_of(datagram) if kind == WHOLE), key=len, default=b"")
        for place in range(min(len(message), _GARBLED_BYTES)):
            garbled = bytearray(message)
            garbled[place] ^= 1 + draw.randrange(255)
            try:
                codec.decode(bytes(garbled))
            except CodecError:  # Nothing else, whatever the bytes are.
                yield framer.wrap(PART.pack(WHOLE, len(garbled)) + garbled)

    def forerunner(self) -> None:
        """The primary resigns. Who goes ahead to lead is not heard, and is back when the others have gone on."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary = self.someone()
        others, view = self._others(primary), self._view(primary)
        self._resign(primary)
        risen = self._await_view(others, view)
        if not risen:
            return
        self._keep_apart(risen[0], self.members)
        world.run_for(draw.randrange(1, 4) * self.patience)
        self.network.heal()
        self.load.read_at(draw_client(draw, self.load), risen[0])
        if draw.randrange(2):
            self.lull()

    def asked_again(self) -> None:
        """A member asks the primary for somebody, and forgets that. It asks again, and hears what was said before."""
        world, load, draw = self.world, self.load, self.draw
        if not self._settle():
            return
        primary = self.someone()
        asker = draw.choice(self._others(primary))
        if not self._begin_again(asker):
            return
        self._read_often(asker, 12, MILLISECOND)
        words = [said for said in self._last_words(primary, 200) if said[0] == self.names[asker]]
        if not self._begin_again(asker):
            return
        self.separate([asker], [primary])
        before = load.acknowledged
        load.fresh()
        world.run_until(lambda: load.acknowledged > before, self.patience // 2)
        self._read_often(asker, 3, MILLISECOND)
        for destination, datagram in words[-30:]:
            self._deliver_at(world.now + draw.randrange(self.patience // 8), self.names[primary], destination, datagram)
        world.run_for(draw.randrange(1, 3) * self.patience)

    def _begin_again(self, member: int) -> bool:
        """A process ends and is back at once; whether it knows a primary soon."""
        self.strike([member], power=False)
        self.start(member)
        return self._await_ready(member)

    def _await_word(self, speaker: int, member: int) -> None:
        """Wait until one has said something to another."""
        said, me = self.network.said[self.names[speaker]], self.names[member]
        before = said[-1]

        def spoken() -> bool:
            return said[-1] is not before and said[-1][0] == me

        self.world.run_until(spoken, self.patience // 4)

    def lose_amid_change(self) -> None:
        """A disk is lost as the primary changes: some answer its member before that, and some after it.

        Whoever is likely to lead next has missed the last things that were agreed, and answers at once.
        """
        world, draw = self.world, self.draw
        if not self._recovers or not self._settle():
            return
        primary = self.someone()
        heir = self.members[(self.members.index(primary) + 1) % len(self.members)]
        loser, *rest = draw.sample(self._others(primary, heir), len(self.members) - 2)
        self._await_data()
        if not self.can_lose(loser):
            return
        self.separate([primary], [heir], both_ways=False)
        self._call_at(primary, draw.choice((10, 40, 120)))
        world.run_for(self.patience // 4)
        self.separate([loser], [primary, *rest], both_ways=False)
        self.lose_disk_of(loser)
        self._await_word(heir, loser)
        life = world.nodes[loser].life
        world.run_for(MILLISECOND)
        if world.nodes[loser].life != life:  # Its clock is behind: it takes another name, and asks once more.
            self._await_word(heir, loser)
        self.separate([loser], [heir], both_ways=False)
        self.network.heal(self.names[primary], self.names[heir])
        self._resign(primary)
        self._await_another(primary)
        world.run_for(draw.choice((5, 20)) * MILLISECOND)
        self.network.heal()
        self.separate([loser], [heir], both_ways=False)
        world.run_for(5 * world.cluster.timeouts.retry)
        self.network.heal()
        world.run_for(draw.randrange(1, 4) * self.patience)

    def outrun(self) -> None:
        """Who was away as the primary changed needs a snapshot, and before it has asked for the rest, a newer one."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        before = self.someone()
        away = draw.choice(self._others(before))
        self.strike([away], power=False)
        self._resign(before)
        leading = self._await_another(before)
        if not leading:
            return
        for _ in range(2):  # Of the second on, the log does not go back as far as what was away has.
            self._call_at(leading, 20)
            world.run_for(self.patience // 4)
            for member in self._others(away):
                world.tell(member, "snapshot", Replica.take_snapshot)
            world.run_for(self.patience // 4)
        held = self._snapshots_of(away)
        self.start(away)
        for _ in range(20):
            if self._snapshots_of(away) != held:
                break
            world.run_for(self.patience // 20)
        self.separate([away], [leading], both_ways=False)
        for _ in range(2):
            self._call_at(leading, 20)
            world.run_for(self.patience // 2)
            world.tell(leading, "snapshot", Replica.take_snapshot)
        self._hush("")
        world.run_for(11 * self.patience)  # For 10 the log is kept for whoever has asked for a snapshot.
        self.network.heal()
        self.load.read_at(draw_client(draw, self.load), away)
        if draw.randrange(2):
            self.lull()

    def _snapshots_of(self, member: int) -> set[str]:
        return {name for name in self.world.nodes[member].disk.contents() if name.startswith("snapshot-")}

    def old_letters(self) -> None:
        """All that a new primary and others said to each other arrives when it leads again: what it orders is new.

        Only a friend heard what it ordered the first time, too few to commit that; of three members the primary forgets
        it. The second time nobody hears it who is needed, and it has asked as often whether it still leads.
        """
        world, draw, quorum = self.world, self.draw, self.world.cluster.configuration.quorum
        if not self._settle():
            return
        before = self.someone()
        self._resign(before)
        self._await_another(before)
        first, address = self._reign_alone(10 + draw.randrange(30))
        if not first:
            return
        [client] = [client for client in self.load.clients if client.address == address]
        self._hush(address)
        friend, *rest = draw.sample(self._others(first), len(self.members) - 1)
        for one, other in ((first, friend), (friend, first)):
            self.network.heal(self.names[one], self.names[other])
        self.separate([friend], rest)
        forgets = quorum < 3 or draw.randrange(4) == 0
        if forgets:
            world.nodes[first].hang = self.patience
        world.run_for(draw.choice((5, 20)) * MILLISECOND)
        letters = self._letters(first)
        if forgets:
            self.strike([first], power=True)
            self._keep_apart(friend, self.members)
            self.start(first)
        self._hush("")
        leading = self._await_another(first)
        if not leading:
            return
        world.nodes[first].hang = 0
        self.network.heal()
        self._hush("")
        self._lead_again(first, leading)
        if world.primary != first:
            return
        self.network.heal()
        self._bind_client(address, first)
        self._hush(address)
        self.separate([first], [friend, *rest[quorum - 2 :]])
        self.load.burst(client, 10 + draw.randrange(30))
        for _ in range(draw.choice((5, 30))):  # Rounds begin.
            self.load.read_at(client, first)
            world.run_for(MILLISECOND)
        for source, destination, datagram in letters:
            self._deliver_at(world.now + draw.randrange(20 * MILLISECOND), source, destination, datagram)
        world.run_for(draw.randrange(1, 3) * self.patience)

    def _letters(self, member: int) -> list[tuple[Address, Address, bytes]]:
        """What a member and others have said to each other last, as (source, destination, datagram)."""
        me = self.names[member]
        return [
            (self.names[speaker], destination, datagram)
            for speaker in (member, *self._others(member))
            for destination, datagram in self._last_words(speaker, 40)
            if speaker == member or destination == me
        ]
