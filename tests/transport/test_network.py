"""The model of the network: equal seeds, cuts, and each fault."""

from __future__ import annotations

from random import Random

import pytest

from transport import LinkFaults, Network

ALL = LinkFaults(loss=0.2, duplicate=0.2, corrupt=0.2, replay=0.2, reorder=0.2)
COUNT = 2000


def _run(faults: LinkFaults, seed: int = 1) -> tuple[Network, list[list[tuple[int, bytes]]]]:
    network = Network(Random(seed), faults)
    return network, [network.transmit("a", "b", b"%06d" % number, number) for number in range(COUNT)]


def test_equal_seeds_give_equal_fates() -> None:
    assert _run(ALL)[1] == _run(ALL)[1]
    assert _run(ALL)[1] != _run(ALL, seed=2)[1]


def test_a_link_without_faults_delivers_each_once_after_its_delay() -> None:
    _, fates = _run(LinkFaults(delay_base_ns=5, delay_mean_ns=0))
    assert fates == [[(number + 5, b"%06d" % number)] for number in range(COUNT)]


def test_delays_have_the_mean_asked_for_and_a_bound() -> None:
    _, fates = _run(LinkFaults(delay_base_ns=1000, delay_mean_ns=10_000))
    delays = [arrival - number for number, ((arrival, _),) in enumerate(fates)]
    assert 9_000 < sum(delays) / COUNT - 1000 < 11_000
    assert min(delays) >= 1000
    assert 40_000 < max(delays) <= 1000 + 7 * 10_000


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        ("loss", "lost"),
        ("duplicate", "duplicated"),
        ("corrupt", "corrupted"),
        ("replay", "replayed"),
        ("reorder", "reordered"),
    ],
)
def test_each_fault_happens_as_often_as_asked(fault: str, counted: str) -> None:
    network, fates = _run(LinkFaults(**{fault: 0.25}))  # type: ignore[arg-type]  # the times are ints
    assert set(network.statistics()) == {counted}
    assert 400 < network.statistics()[counted] < 600
    arrived = sum(map(len, fates))
    expected = {"loss": -1, "duplicate": 1, "replay": 1}.get(fault, 0) * network.statistics()[counted]
    assert arrived == COUNT + expected
    whole = sum(datagram == b"%06d" % number for number, fate in enumerate(fates) for _, datagram in fate)
    assert (whole < COUNT) == (fault in ("loss", "corrupt"))


def test_a_flipped_bit_is_one_bit() -> None:
    network = Network(Random(1), LinkFaults(corrupt=1.0))
    ((_, damaged),) = network.transmit("a", "b", bytes(10), 0)
    assert sum(map(int.bit_count, damaged)) == 1
    ((_, empty),) = network.transmit("a", "b", b"", 0)
    assert empty == b""


def _passing(network: Network) -> set[str]:
    """Which of six directions between a, b and c pass."""
    names = "abc"
    return {one + other for one in names for other in names if one != other and network.transmit(one, other, b"x", 0)}


def test_cuts_are_one_way() -> None:
    network = Network(Random(1))
    everything = {"ab", "ac", "ba", "bc", "ca", "cb"}
    assert _passing(network) == everything
    network.cut("a", "b")
    assert _passing(network) == everything - {"ab"}
    network.heal("a", "b")
    assert _passing(network) == everything
    network.isolate("a", outbound=False)
    assert _passing(network) == everything - {"ba", "ca"}
    network.isolate("a")
    assert _passing(network) == {"bc", "cb"}
    network.heal("a")
    assert _passing(network) == everything - {"ba", "ca"}
    network.heal(destination="a")
    network.cut("b", "c")
    network.cut("b", "a")
    network.heal("b")
    assert _passing(network) == everything
    network.isolate("b")
    network.cut("a", "c")
    network.heal()
    assert _passing(network) == everything


def test_one_link_may_be_worse_than_the_others() -> None:
    network = Network(Random(1))
    network.set_link("a", "b", LinkFaults(loss=1.0))
    assert _passing(network) == {"ac", "ba", "bc", "ca", "cb"}
    network.set_link("a", "b", None)
    assert "ab" in _passing(network)


@pytest.mark.parametrize("values", [{"loss": 1.5}, {"corrupt": -0.1}, {"delay_base_ns": -1}])
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        LinkFaults(**values)  # type: ignore[arg-type]  # some are ints
