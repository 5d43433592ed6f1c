"""The measures, each by its name: what is run in turn in every round, and the row that it fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import psycopg

from bench import grow, growth, latency, limits, load, rebuild, web
from bench.contenders import Naive, Ours
from bench.drain import Drained, drain, tell
from bench.processes import Failed
from bench.report import Goal, Report
from bench.servers import Servers
from bench.wire import Refused

T = TypeVar("T")

NAIVE = "naive"
# So much of our own greatest visible throughput, for the latency under load.
SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done in a round; seconds, activities, events and blocks of ten thousand events."""

    rounds: int = 3
    ours: int = 4000
    naive: int = 300
    grown: int = 1500
    seconds: float = 20.0
    asked: float = 5.0
    rebuilt: int = 5
    blocks: int = 100
    raw: int = 100_000


FULL = Sizes()
QUICK = Sizes(rounds=1, ours=1200, naive=50, grown=500, seconds=4.0, asked=1.0, rebuilt=1, blocks=10, raw=20_000)


@dataclass
class Bench:
    """One run of the bench: the servers, the sizes and the report that is filled."""

    servers: Servers
    sizes: Sizes
    report: Report
    _greatest: list[float] = field(default_factory=list)

    def rounds(self, name: str, *steps: Callable[[], None]) -> None:
        """Take the steps in turn, as often as there are rounds; a step that fails has no figure."""
        for number in range(1, self.sizes.rounds + 1):
            for step in steps:
                tell(f"{name}: {step.__name__.replace('_', ' ')}, round {number} of {self.sizes.rounds}")
                self.attempt(name, step)

    def attempt(self, name: str, step: Callable[[], T]) -> T | None:
        """Take a step, and keep why it has no figure."""
        try:
            return step()
        except (Failed, Refused, psycopg.Error, OSError) as error:
            tell(f"{name}: no figure: {error}")
            self.report.failures.append(f"{name}, {step.__name__}: {error}")
            return None

    # Measures.

    def limits(self) -> None:
        """Fill the rows of what the machine can do."""
        report, events = self.report, self.sizes.raw

        def database() -> None:
            report.row("limit: 1 row per commit", "events/s").values.append(
                limits.one_by_one(self.servers, events // 30)
            )
            report.row("limit: UNNEST of 1000", "events/s").values.append(limits.raw(self.servers, events))
            report.row("limit: COPY of 1000", "events/s").values.append(limits.copied(self.servers, events))

        def broker() -> None:
            into, out = limits.broker(self.servers, events)
            report.row("limit: quorum queue, in and confirmed", "messages/s").values.append(into)
            report.row("limit: quorum queue, out", "messages/s").values.append(out)

        self.rounds("limits", database, broker)

    def committed(self) -> None:
        """Fill the rows of the worker alone."""
        report, sizes = self.report, self.sizes
        row = report.row("committed, one worker", "commands/s", NAIVE, Goal(30, True))
        silent = report.row("committed, naive publishing nothing", "commands/s", "Foldwork")
        bare = report.row("committed, in events", "events/s", "UNNEST of 1000")

        def ours() -> None:
            found = drain(self.servers, Ours(), sizes.ours, whole=False)
            row.values.append(found.committed)
            silent.others.append(found.committed)
            bare.values.append(found.committed * Ours.events / load.COMMANDS)
            self._sender(found)

        def naive() -> None:
            row.others.append(drain(self.servers, Naive(), sizes.naive, whole=False).committed)

        def naive_publishing_nothing() -> None:
            silent.values.append(drain(self.servers, Naive(silent=True), sizes.naive, whole=False).committed)

        def raw() -> None:
            bare.others.append(limits.raw(self.servers, sizes.raw))

        self.rounds("committed", ours, naive, naive_publishing_nothing, raw)

    def visible(self) -> None:
        """Fill the rows of every role running: visible and published, taken from the same runs."""
        report, sizes = self.report, self.sizes
        visible = report.row("visible, every role", "commands/s", NAIVE, Goal(15, True))
        published = report.row("published, every role", "commands/s", NAIVE, Goal(10, True))

        def ours() -> None:
            found = drain(self.servers, Ours(), sizes.ours, whole=True)
            visible.values.append(found.visible)
            published.values.append(found.published)
            self._greatest.append(found.visible)
            self._sender(found)

        def naive() -> None:
            found = drain(self.servers, Naive(), sizes.naive, whole=True)
            visible.others.append(found.visible)
            published.others.append(found.published)

        self.rounds("visible", ours, naive)

    def _sender(self, found: Drained) -> None:
        row = self.report.row("the bench's own sender", "messages/s")
        row.values.append(found.sender)

    def latency(self) -> None:
        """Fill the rows of publish to visible under a live sender."""
        report, seconds = self.report, self.sizes.seconds
        if not self._greatest:
            tell("latency: finding the greatest throughput")
            found = self.attempt("latency", lambda: drain(self.servers, Ours(), self.sizes.ours, whole=True))
            self._greatest += [found.visible] if found else []
        middle = report.row("p50 publish to visible at 50/s", "ms", NAIVE)
        slow = report.row("p99 publish to visible at 50/s", "ms", NAIVE, Goal(1, False))
        loaded = report.row("p99 at 60 % of our own maximum", "ms", "ours at 50/s", Goal(5, False))

        def ours() -> None:
            found = latency.latency(self.servers, Ours(), 50, seconds)
            middle.values.append(found.p50)
            slow.values.append(found.p99)
            loaded.others.append(found.p99)

        def naive() -> None:
            found = latency.latency(self.servers, Naive(), 50, seconds)
            middle.others.append(found.p50)
            slow.others.append(found.p99)

        def ours_under_load() -> None:
            if not self._greatest:
                raise Failed("there is no throughput to take a share of")
            speed = SHARE * sorted(self._greatest)[len(self._greatest) // 2]
            found = latency.latency(self.servers, Ours(), speed, seconds / 2)
            loaded.values.append(found.p99)
            loaded.note = f"at {speed:,.0f} commands/s, the sender at most {found.late:.0f} ms behind its plan"

        self.rounds("latency", ours, naive, ours_under_load)

    def rebuild(self) -> None:
        """Fill the rows of the read models' rebuild."""
        system = self.attempt("rebuild", lambda: self._grown(self.sizes.rebuilt))
        if system is None:
            return
        report = self.report
        worst = report.row("rebuild, the slowest read model", "events/s", "ProjectionRunner", Goal(40, True))
        every = report.row("rebuild, all four one after another", "events/s", "ProjectionRunner")

        def ours() -> None:
            found = rebuild.ours(system)
            every.values.append(found.pop("all"))
            worst.values.append(min(found.values()))
            for name, speed in found.items():
                report.row(f"rebuild of {name}", "events/s").values.append(speed)

        def naive() -> None:
            events = (load.EVENTS + load.CHANGES) * system.activities
            speed = rebuild.naive(self.servers, events // load.EVENTS)
            worst.others.append(speed)
            every.others.append(speed)

        self.rounds("rebuild", ours, naive)
        self.servers.drop_database(system.url)

    def http(self) -> None:
        """Fill the rows of one HTTP process."""
        system = self.attempt("http", lambda: self._first)
        if system is None:
            return
        report, alone = self.report, "psycopg alone"
        get = report.row("HTTP get by id", "requests/s", alone, Goal(0.35, True))
        page = report.row("HTTP list of 50", "requests/s", alone, Goal(0.35, True))

        def asked() -> None:
            report.row("the bench's own HTTP client", "requests/s").values.append(web.client_maximum(self.sizes.asked))
            found = web.web(self.servers, system, self.sizes.asked)
            get.values.append(found.get)
            get.others.append(found.get_alone)
            page.values.append(found.page)
            page.others.append(found.page_alone)

        self.rounds("http", asked)

    def growth(self) -> None:
        """Fill the rows of a small log against a big one, and of the memory there."""
        small = self.attempt("growth", lambda: self._first)
        big = self.attempt("growth", lambda: self._grown(self.sizes.blocks)) if small else None
        if small is None or big is None:
            return
        report, sizes = self.report, self.sizes
        events = (load.EVENTS + load.CHANGES) * big.activities
        rows = {
            name: report.row(
                f"{name} at {events:,} events",
                "a second",
                "at 10,000, cost",
                Goal(1.3, False),
                ratio=lambda value, other: other / value,
            )
            for name in ("append", "visible", "get", "page")
        }
        for name, took in big.rebuilt.items():
            report.row(f"rebuild of {name} at {events:,}", "events/s").values.append(events / took)

        def small_log() -> None:
            found = growth.costs(self.servers, small, sizes.grown, sizes.asked, keep=False)
            for name, row in rows.items():
                row.others.append(getattr(found, name))

        def big_log() -> None:
            found = growth.costs(self.servers, big, sizes.grown, sizes.asked, keep=True)
            for name, row in rows.items():
                row.values.append(getattr(found, name))
            for role, size in found.memory.items():
                measure = f"memory of {role} at {events:,} events"
                report.row(measure, "MB", goal=Goal(150, False, "MB")).values.append(size)

        self.rounds("growth", small_log, big_log)
        self.servers.drop_database(big.url)

    @cached_property
    def _first(self) -> grow.System:
        tell("making ten thousand events")
        return grow.first_block(self.servers)

    def _grown(self, blocks: int) -> grow.System:
        first = self._first
        tell(f"making {blocks * (load.EVENTS + load.CHANGES) * first.activities:,} events")
        return grow.grown(self.servers, first, blocks)


MEASURES: Mapping[str, Callable[[Bench], None]] = {
    "limits": Bench.limits,
    "committed": Bench.committed,
    "visible": Bench.visible,
    "latency": Bench.latency,
    "rebuild": Bench.rebuild,
    "http": Bench.http,
    "growth": Bench.growth,
}
