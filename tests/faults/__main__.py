"""`python -m tests.faults`: each fault in an episode, then all kinds mixed on one system, until time is up.

SIGTERM and Ctrl-C end everything that was started.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from tests.faults import report, sending_faults, server_faults, store_faults
from tests.faults.episode import Outcome, Plan, run
from tests.faults.faults import FAULTS, Fault
from tests.faults.servers import Servers, described, installed, servers

# The longest that the end of an episode takes: settling, stopping and checking.
_CLOSING = 60.0
# The most violations of an episode that are printed; the report has all.
_SHOWN = 20
# Importing them adds their faults to the catalogue.
__all__ = ["sending_faults", "server_faults", "store_faults"]


def main() -> int:
    """Run, report, and return 1 if anything was violated."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="foldwork-soak-"))
    # The client library tells of every connection that a fault ends.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with servers(options.broker) as made:
        try:
            outcomes = asyncio.run(_episodes(options, made, folder))
        except asyncio.CancelledError:
            print("interrupted", file=sys.stderr)
            return 130
        machine = described(made)
    seconds = time.monotonic() - began
    (folder / "report.json").write_text(report.as_json(outcomes, machine, options.seed, seconds), "utf-8")
    markdown = report.as_markdown(outcomes, machine, seconds)
    (folder / "report.md").write_text(markdown, "utf-8")
    print(markdown)
    print(f"The report is in {folder}/report.json and report.md.")
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="names of faults, or their beginnings, separated by commas")
    parser.add_argument(
        "--times", type=int, default=0, help="how often each fault is injected; its own number if omitted"
    )
    parser.add_argument("--broker", choices=("rabbitmq", "development"), default=installed())
    parser.add_argument("--rate", type=float, default=100.0, help="commands a second")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds before each fault")
    parser.add_argument(
        "--every", type=float, default=20.0, help="seconds from the begin of one mixed fault to the next"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="shortens what the faults themselves take")
    parser.add_argument("--mixed", action="store_true", help="only mix the faults, without an episode for each before")
    parser.add_argument("--list", action="store_true", help="list the faults")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FAULTS))
        sys.exit(0)
    return options


async def _episodes(options: argparse.Namespace, made: Servers, folder: Path) -> list[Outcome]:
    # The episode ends its processes then; what a signal raises anywhere in the loop would leave them.
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    until = time.monotonic() + 60 * options.minutes
    only = tuple(filter(None, options.only.split(",")))
    chosen = [fault for fault in FAULTS.values() if not only or fault.name.startswith(only)]
    random.Random(options.seed).shuffle(chosen)
    outcomes: list[Outcome] = []

    async def episode(plan: Plan) -> None:
        plan.rate, plan.scale = options.rate, options.scale
        print(f"{time.strftime('%H:%M:%S')} {plan.name}", end=" ", flush=True, file=sys.stderr)
        found = await run(plan, made, folder / f"{len(outcomes):02}-{plan.name}")
        outcomes.append(found)
        times = [each.skipped or each.recovery for each in found.faults]
        verdict = f"{len(found.broken)} VIOLATIONS" if found.broken else "holds"
        print(f"{verdict}; {found.sent} calls in {found.seconds} s; back after {times}", flush=True, file=sys.stderr)
        if found.broken:
            print(f"history and logs: {found.folder}", *found.broken[:_SHOWN], sep="\n  ", flush=True, file=sys.stderr)

    for fault in () if options.mixed else chosen:
        if time.monotonic() + _CLOSING > until and outcomes:
            print(f"no time for {fault.name}", file=sys.stderr)
            continue
        turns = [fault] * (options.times or fault.times)
        await episode(Plan(fault.name, turns, options.seed, pause=options.pause, standby=frozenset(fault.standby)))
    mixed = [fault for fault in chosen if fault.mixed]
    if mixed and time.monotonic() + 2 * _CLOSING < until:
        seed = options.seed + 1
        standby = frozenset(role for fault in mixed for role in fault.standby)
        endless = _mixed(mixed, seed, until - _CLOSING)
        await episode(Plan("mixed", endless, seed, pause=options.pause, every=options.every, standby=standby))
    return outcomes


def _mixed(faults: list[Fault], seed: int, until: float) -> Iterator[Fault]:
    chance = random.Random(seed)
    while time.monotonic() < until:
        yield chance.choice(faults)


if __name__ == "__main__":
    sys.exit(main())
