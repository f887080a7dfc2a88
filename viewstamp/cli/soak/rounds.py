"""A soak's script: rounds of faults drawn from a seed, each followed by healing, which must not take long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import trio

from viewstamp.cli.soak.failures import Failures
from viewstamp.cli.soak.findings import LIVENESS, Finding
from viewstamp.cli.soak.load import Load
from viewstamp.cli.soak.watch import Watch
from viewstamp.cli.soak.weather import Weather

RECOVERS_WITHIN_S = 20.0
_SHORTEST_S, _LONGEST_S = 0.7, 3.5
_CALM_S = 0.5
_STEP_S = 0.02
_LOST_DISK = 0.07


class Rounds:
    """`counts` says how often each kind of fault took place."""

    def __init__(
        self,
        weather: Weather,
        failures: Failures,
        load: Load,
        watch: Watch,
        random: Random,
        say: Callable[[str], None],
    ) -> None:
        self._weather = weather
        self._failures = failures
        self._load = load
        self._watch = watch
        self._random = random
        self._say = say
        failures.say = say
        self.counts: Counter[str] = Counter()
        self.longest_recovery_s = 0.0

    async def run(self, seconds: float) -> None:
        """Round after round, for that long and until the last one is over; nothing is left broken.

        Raises:
          Finding: something does not recover.
        """
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            if self._failures.loses_disks and self._random.random() < _LOST_DISK:
                self.counts["lost disk"] += 1
                await self._failures.lose_disk()
            else:
                await self._fail()
            await self.recover()
            await trio.sleep(self._random.uniform(0, _CALM_S))

    async def _fail(self) -> None:
        """Bad weather, a cut, a failure of processes: each with some probability, all at the same time."""
        random = self._random
        if random.random() < 0.6:
            self._note(*self._weather.turn_bad())
        async with trio.open_nursery() as nursery:
            if random.random() < 0.6:
                nursery.start_soon(self._fail_processes)
            if random.random() < 0.55:
                await trio.sleep(random.uniform(0, 0.3))
                self._note(*self._weather.cut())
            await trio.sleep(random.uniform(_SHORTEST_S, _LONGEST_S))
            # Members that were killed come back to a network that is well again, or not yet, as it falls.
            if random.random() < 0.5:
                self._weather.clear()

    async def _fail_processes(self) -> None:
        await trio.sleep(self._random.uniform(0, 0.5))
        kind = self._random.choice(list(self._failures.kinds))
        self.counts[kind] += 1
        await self._failures.kinds[kind]()

    def _note(self, kind: str, details: str = "") -> None:
        self.counts[kind] += 1
        self._say(f"{kind} {details}".rstrip())

    async def recover(self) -> None:
        """Heal everything, and wait until every member serves and every call that was waiting is answered.

        Raises:
          Finding: that takes longer than RECOVERS_WITHIN_S.
        """
        self._weather.clear()
        await self._failures.start_missing()
        began = trio.current_time()
        waiting = list(self._load.under_way.values())
        await self._watch.caught_up(RECOVERS_WITHIN_S)
        with trio.move_on_after(RECOVERS_WITHIN_S):
            while waiting:
                await trio.sleep(_STEP_S)
                waiting = [each for each in waiting if self._load.under_way.get(each.client) is each]
        if waiting:
            raise Finding(
                LIVENESS,
                f"a call has no answer {RECOVERS_WITHIN_S:g} s after all was healed: {waiting[0].recorded()}; "
                f"{self._watch.complaints()}",
            )
        took_s = trio.current_time() - began
        self.longest_recovery_s = max(self.longest_recovery_s, took_s)
        self._say(f"healed; all is served again after {took_s:.2f} s")
