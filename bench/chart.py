"""One chart of a run's results, as PNG and SVG."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

# By name, so that types can be checked where this extra is not installed.
_matplotlib: Any = import_module("matplotlib")
_figure: Any = import_module("matplotlib.figure")
_ticker: Any = import_module("matplotlib.ticker")

_STYLES = {
    "vsr, memory": ("#7fb0e0", "o"),
    "raft, memory": ("#8fd0b0", "s"),
    "vsr": ("#1f5fa8", "o"),
    "raft": ("#2f9e6e", "s"),
    "etcd": ("#c2553a", "^"),
    "PySyncObj unbatched": ("#8a6fb0", "v"),
    "PySyncObj": ("#c9a227", "D"),
    "floor": ("#9aa0a8", "_"),
    "bare primary": ("#5c636b", "|"),
}
_PANELS = (
    ("puts", "per_second", "Writes of 16 bytes, per second"),
    ("reads", "per_second", "Linearizable reads, per second"),
    ("puts", "p50_us", "Latency of a write, p50, microseconds"),
    ("increments", "per_second", "Increments, and the floor, per second"),
    ("shared", "per_second", "Puts of tasks that share one client, per second"),
    ("lists", "commands_per_second", "Increments handed over in lists, per second"),
    ("inside", "per_second", "Calls inside the primary's process, per second"),
    ("failover", "gap_ms", "Gap after SIGKILL of the primary, milliseconds"),
)
_COLUMNS = 3
_SHORT_LISTS = ("lists of 1", "lists of 100")


class _Point(NamedTuple):
    setting: str
    median: float
    lowest: float
    highest: float


def draw(results: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw the panels for which there are figures, into `stem`.png and `stem`.svg; the files written."""
    cases = {case["case"]: case["rows"] for case in results["cases"]}
    panels = [(title, _lines(cases[case], name)) for case, name, title in _PANELS if case in cases]
    panels = [(title, lines) for title, lines in panels if lines]
    if not panels:
        return []
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with _matplotlib.rc_context({"svg.hashsalt": "viewstamp", "font.size": 9}):
        figure = _figure.Figure(figsize=(4.4 * columns, 3.0 * rows + 0.3), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for (title, lines), axis in zip(panels, axes, strict=False):
            axis.set_title(title, fontsize=9, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
            settings = [{point.setting for point in points} for points in lines.values()]
            if any(len(each) > 1 and each & settings[0] for each in settings):
                _curves(axis, lines)
            else:
                _bars(axis, lines)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.supxlabel(_caption(results), fontsize=8, color="#555555")
        files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
        for file in files:
            figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def _caption(results: Mapping[str, Any]) -> str:
    machine = results["calibration"]["before"]
    return (
        f"3 members and their clients on one machine: {machine['cores']} cores, fdatasync {machine['sync_us']:.0f} us, "
        f"Python {machine['python']}. Medians and ranges. Durable, but for PySyncObj, which never syncs, and 'memory'."
    )


def _lines(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[_Point]]:
    """The points of each system, in the order of measurement."""
    lines: dict[str, list[_Point]] = {}
    for row in rows:
        values = row["figures"].get(name)
        if values:
            point = _Point(row["setting"], statistics.median(values), min(values), max(values))
            lines.setdefault(row["system"], []).append(point)
    return lines


def _curves(axis: Any, lines: Mapping[str, Sequence[_Point]]) -> None:
    """A line for each system over the settings; both scales are logarithmic in effect."""
    settings = list(dict.fromkeys(point.setting for points in lines.values() for point in points))
    for system, points in lines.items():
        colour, marker = _style(system)
        at = [settings.index(point.setting) for point in points]
        medians = [point.median for point in points]
        span = [[p.median - p.lowest for p in points], [p.highest - p.median for p in points]]
        axis.errorbar(at, medians, yerr=span, color=colour, marker=marker, markersize=5, capsize=2, label=system)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(_ticker.LogLocator(subs=(1, 3)))
    axis.yaxis.set_major_formatter(_ticker.StrMethodFormatter("{x:,.0f}"))
    axis.yaxis.set_minor_formatter(_ticker.NullFormatter())
    axis.set_xticks(range(len(settings)), [setting.replace("000 ", ",000 ") for setting in settings], fontsize=8)
    axis.set_xlim(-0.3, len(settings) - 0.7)
    axis.grid(axis="y", color="#eeeeee")
    axis.legend(fontsize=7, frameon=False)


def _bars(axis: Any, lines: Mapping[str, Sequence[_Point]]) -> None:
    """A bar for each system; where they were measured under other settings, for each of these, but for short lists."""
    bars = [(system, point) for system, points in lines.items() for point in points]
    alone = len(bars) == len(lines)
    bars = [(system, point) for system, point in bars if alone or not point.setting.endswith(_SHORT_LISTS)]
    for number, (system, point) in enumerate(bars):
        span = [[point.median - point.lowest], [point.highest - point.median]]
        axis.barh(number, point.median, 0.7, color=_style(system)[0], xerr=span, ecolor="#333333", capsize=2)
        axis.text(point.highest, number, f"  {point.median:,.0f}", va="center", fontsize=8)
    names = [system if alone else f"{system}, {point.setting}" for system, point in bars]
    axis.set_yticks(range(len(bars)), names, fontsize=9 if alone else 6)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.xaxis.set_major_locator(_ticker.MaxNLocator(4))
    axis.xaxis.set_major_formatter(_ticker.StrMethodFormatter("{x:,.0f}"))


def _style(system: str) -> tuple[str, str]:
    return next((style for prefix, style in _STYLES.items() if system.startswith(prefix)), ("#777777", "x"))
