"""The command: `python -m bench [--json] [--quick] [--only NAME …]`; progress goes to stderr, the table to stdout."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from bench.drain import tell
from bench.measures import FULL, MEASURES, QUICK, Bench
from bench.report import Report
from bench.servers import AMQP_VARIABLE, DATABASE_VARIABLE, Unusable, described, found


def main() -> int:
    """Run the measures and print the table; 1 when a run failed its check, 2 when there are no servers."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Foldwork beside the naive peer and the machine's own limits, on PostgreSQL and RabbitMQ.",
        epilog=f"The servers are those of {DATABASE_VARIABLE} and {AMQP_VARIABLE}, or this machine's standard ones.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON with every round's values")
    parser.add_argument("--quick", action="store_true", help="one short round; its figures are for a first look")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), metavar="NAME", help=", ".join(MEASURES))
    arguments = parser.parse_args()
    # Whoever is ended this way too drops what was made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with found() as servers:
            report = Report(described(servers))
            bench = Bench(servers, QUICK if arguments.quick else FULL, report)
            try:
                for name in arguments.only or MEASURES:
                    MEASURES[name](bench)
            except KeyboardInterrupt:
                tell("interrupted; what was measured so far:")
            print(json.dumps(report.as_json(), indent=2) if arguments.json else report.as_table())
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
