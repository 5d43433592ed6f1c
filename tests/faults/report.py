"""What a run of many episodes reports: JSON, and the tables of docs/reliability.md."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.faults.checkers import CHECKERS
from tests.faults.episode import BOUNDS, Outcome
from tests.faults.evidence import Injected


def as_json(outcomes: Sequence[Outcome], machine: dict[str, str], seed: int, seconds: float) -> str:
    """Return everything as JSON."""
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": seed,
        "seconds": round(seconds),
        "machine": machine,
        "totals": totals(outcomes),
        "recovery": [dataclasses.asdict(each) for outcome in outcomes for each in outcome.faults],
        "violations": [text for outcome in outcomes for text in outcome.broken],
        "episodes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    return json.dumps(found, indent=1)


def totals(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the sums over all episodes."""
    names = ("sent", "confirmed", "answered", "events", "bad", "unknown", "resolved")
    memory: defaultdict[str, int] = defaultdict(int)
    for outcome in outcomes:
        for role, peak in outcome.memory.items():
            memory[role] = max(memory[role], peak)
    return {
        **{name: sum(getattr(outcome, name) for outcome in outcomes) for name in names},
        "faults": sum(each.skipped is None for outcome in outcomes for each in outcome.faults),
        "restarts": sum(sum(outcome.restarts.values()) for outcome in outcomes),
        "checks": len(CHECKERS) * len(outcomes),
        "violations": sum(len(outcome.broken) for outcome in outcomes),
        "memory": dict(memory),
    }


def as_markdown(outcomes: Sequence[Outcome], machine: dict[str, str], seconds: float) -> str:
    """Return the tables."""
    sums = totals(outcomes)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    load = f"load {os.getloadavg()[0]:.0f} at the end" if sys.platform != "win32" else ""
    servers = f"PostgreSQL {machine['PostgreSQL']}, broker {machine['broker']}"
    lines = [
        f"{day}, {machine['cores']} cores ({load}), {seconds / 60:.0f} minutes, {servers}.",
        "",
        "| | |",
        "|---|---|",
        f"| commands sent | {sums['sent']:,} |",
        f"| confirmed or answered | {sums['confirmed']:,} |",
        f"| events recorded | {sums['events']:,} |",
        f"| faults injected | {sums['faults']:,} |",
        f"| processes started again | {sums['restarts']:,} |",
        f"| calls with an unknown outcome, resolved later | {sums['unknown']:,}, {sums['resolved']:,} |",
        f"| bad messages | {sums['bad']:,} |",
        f"| invariants checked | {sums['checks']:,} ({len(CHECKERS)} after each of {len(outcomes)} episodes) |",
        f"| violations | {sums['violations']} |",
        "",
        "| Fault | Times | Back after, median | worst | goal |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(name, found) for name, found in sorted(_by_name(outcomes).items())]
    measured = [each for outcome in outcomes for each in outcome.faults if each.figures]
    if measured:
        lines += ["", "| Fault | What was measured |", "|---|---|"]
    for each in measured:
        lines.append(f"| {each.name} | {', '.join(f'{what}: {value:,.0f}' for what, value in each.figures.items())} |")
    lines += ["", "| Role | Peak memory | Bound |", "|---|---|---|"]
    lines += [
        f"| {role} | {peak >> 20} MiB | {BOUNDS[role] >> 20} MiB |" for role, peak in sorted(sums["memory"].items())
    ]
    return "\n".join(lines) + "\n"


def _by_name(outcomes: Sequence[Outcome]) -> dict[str, list[Injected]]:
    found: defaultdict[str, list[Injected]] = defaultdict(list)
    for outcome in outcomes:
        for each in outcome.faults:
            found[each.name].append(each)
    return found


def _row(name: str, found: Sequence[Injected]) -> str:
    done = [each for each in found if each.skipped is None]
    if not done:
        return f"| {name} | 0 | not run: {found[0].skipped} | | |"
    times = [each.recovery for each in done if each.recovery is not None]
    goal = f"{done[0].goal:.0f} s" if done[0].goal is not None else ""
    missed = len(done) - len(times)
    median = f"{statistics.median(times):.1f} s" if times else "never"
    worst = f"{max(times):.1f} s" if times and not missed else "never"
    return f"| {name} | {len(done)} | {median} | {worst} | {goal} |"
