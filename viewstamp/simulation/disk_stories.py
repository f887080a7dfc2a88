"""What befalls disks and takes time, so that somebody comes to read what has decayed."""

from __future__ import annotations

from viewstamp.journal.simulated import Crash
from viewstamp.journal.snapshot_files import snapshot_name
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import Replica
from viewstamp.simulation.decay import decay
from viewstamp.simulation.faults import Faults
from viewstamp.simulation.load import draw_client


class DiskStories(Faults):
    """Snapshots: taken when an operator wants them, and damaged."""

    def snapshot_now(self) -> None:
        """Operators ask members for a snapshot, of a log that is still short."""
        for member in self.draw.sample(self.members, 1 + self.draw.randrange(len(self.members))):
            self.world.tell(member, "snapshot", Replica.take_snapshot)

    def stumble(self) -> None:
        """A member with a snapshot of its own was away, is sent another, and ends inside one of its disk operations; or
        as soon as the file of its own is gone, or the journal names the other, whichever comes first."""
        draw, world = self.draw, self.world
        away = self.anyone()
        world.tell(away, "snapshot", Replica.take_snapshot)
        world.run_for(self.patience // 2)
        self.strike([away], power=False)
        others = [member for member in self.members if member != away]
        self.load.burst(draw_client(draw, self.load), 30)
        world.run_for(draw.randrange(1, 3) * self.patience)
        for _ in range(2):  # Of the second on, the log does not go back as far as what was away has.
            for member in others:
                world.tell(member, "snapshot", Replica.take_snapshot)
            world.run_for(self.patience // 2)
            self.load.burst(draw_client(draw, self.load), 10)
        image = world.watch.disks[away]
        held = image.snapshot
        self.start(away)
        node = world.nodes[away]
        node.hang = draw.choice((0, 0, 10, 30)) * MILLISECOND
        world.run_until(lambda: image.snapshot != held or node.writing, draw.randrange(self.patience))
        if held is not None and draw.randrange(2):
            name = snapshot_name(held)
            world.run_until(lambda: image.snapshot != held or name not in node.disk.names(), self.patience)
            self.strike([away], power=bool(draw.randrange(2)))
        else:
            self.plan_crash(away, 1 + draw.randrange(8), draw.choice((Crash.KILLED, Crash.POWER_LOST)))
            world.run_for(self.patience)
        self.start(away)

    def damage_snapshot(self) -> None:
        """The snapshot that a member would restart from decays: it must be found out, by whoever reads it.

        Either the member ends at once, finds it as it starts, and is replaced; or it runs on, another that was away
        needs a snapshot by now, and the first finds it when it gives its own, and takes it again.
        """
        draw, world = self.draw, self.world
        member, away = self.someone(), self.anyone()
        needed = draw.randrange(2) == 0
        if needed and away != member:
            self.strike([away], power=False)
            self.load.burst(draw_client(draw, self.load), 30)
            world.run_for(draw.randrange(self.patience))
        world.tell(member, "snapshot", Replica.take_snapshot)
        world.run_for(draw.randrange(self.patience // 2))
        snapshot, node = world.watch.disks[member].snapshot, world.nodes[member]
        barred = self.gone | self.damaged | self.decayed
        if snapshot is None or member in barred or not self.can_lose(member) or not decay(node, snapshot, draw):
            return
        self.decayed.add(member)
        self.without_data.add(member)
        world.watch.counts["damaged snapshots"] += 1
        world.note(f"member {member}'s snapshot up to op {snapshot.op} decays")
        if needed:
            self.start(away)
        else:
            self.strike([member], power=bool(draw.randrange(2)))
            self.start(member)

    def new_machine(self) -> None:
        """A member gets a blank disk, though it may have told others of the old one before it had promised anything.

        Its clock may be behind: others then know it under a newer name than it gives itself.
        """
        world, draw, member = self.world, self.draw, self.anyone()
        image, node = world.watch.disks[member], world.nodes[member]
        if self.founded:
            self.lose_disk_of(member)
            return
        waited_for = draw.choice(self.members)
        self.strike([waited_for], power=False)
        self.start(member)
        world.run_for(draw.randrange(100 * MILLISECOND))
        if image.state is None and not image.ghost and not self.without_data and self._spares(member):
            node.clock.ahead -= draw.choice((0, SECOND, 3600 * SECOND))
            node.disk.on_operation = None
            world.lose_disk(member)
            world.note(f"member {member}, which has not been founded, has another disk")
            self.replaced.add(member)
            world.start(member)
        self.start(waited_for)
