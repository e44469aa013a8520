"""Engines that run by turns, and the table of what came of them. Imports neither engine."""

import statistics
from collections.abc import Iterable, Sequence

PARTS = {  # of `measure.report`: its unit, and how many of it are a second or 10**9 bytes
    "load": ("s", 1),
    "vision": ("s", 1),
    "prefill": ("s", 1),
    "vision + prefill": ("s", 1),
    "decode": ("ms/token", 1000),
    "load memory": ("GB, peak", 1),
    "memory": ("GB, peak", 1),
}


def in_rounds(sides: dict, rounds: int) -> dict:
    """What each side, a function, returned in each round; every second round goes backwards."""
    found = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else [*sides][::-1]:
            found[name].append(sides[name]())
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and largest."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f} to {max(values):.{digits}f}]"


def ratios(over: Iterable[float], under: Iterable[float]) -> list[float]:
    """Of figures that belong together."""
    return [one / other for one, other in zip(over, under, strict=True)]


def print_both(ours: list[dict], peer: list[dict], name: str) -> None:
    """Versions, figures, and how far the answers agree, of the reports of each round."""
    print(f"ours: {versions(ours[0])}\n{name}: {versions(peer[0])}\n")
    print(table(ours, peer, name))
    same = [mine == theirs for mine, theirs in zip(ours[-1]["tokens"], peer[-1]["tokens"], strict=True)]
    print(f"\nThe answers agree in their first {[*same, False].index(False)} of {len(same)} tokens.")


def table(ours: list[dict], peer: list[dict], name: str) -> str:
    """Median and least figure of each side, and the median, least and largest of the rounds' ratios."""
    lines = [f"| | ours, median (least) | {name} | theirs / ours |", "|---|---|---|---|"]
    for part, (unit, scale) in PARTS.items():
        mine, theirs = ([figure(report, part) for report in reports] for reports in (ours, peer))
        if all([*mine, *theirs]):  # without a picture there is no vision
            sides = (middle([scale * value for value in values]) for values in (mine, theirs))
            lines.append(f"| {part}, {unit} | {' | '.join(sides)} | {spread(ratios(theirs, mine))} |")
    return "\n".join(lines)


def figure(report: dict, part: str) -> float:
    if part == "vision + prefill":
        return report["vision"] and report["vision"] + report["prefill"]
    return report[part]


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f})"


def versions(report: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in report["versions"].items())
