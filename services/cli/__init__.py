"""The command line; every command that prints data takes --json, and every error is one clear line and a code.

Exit status: 0 done; 1 failed, or refused; 2 wrong usage; 3 no answer in time; 130 interrupted; 141 nobody reads on.
"""

from __future__ import annotations

import sys

FAILED = 1
NO_ANSWER = 3
NOBODY_READS = 141


def main() -> None:
    """Run the command line."""
    from services.errors import OperatorError

    try:
        _run(sys.argv[1:])
    except OperatorError as error:
        _fail(str(error))
    except Exception as error:
        from services.cli.failures import explain

        told = explain(error)
        if told is None:
            raise
        _fail(told)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    # Asked by machines every few seconds: not worth a tenth of a second of parsing options.
    if arguments == ["health"]:
        from services.cli.health import health

        sys.exit(health())
    if arguments == ["--version"]:
        from services import __version__

        print(f"foldwork {__version__}")
        return
    if any("\udc80" <= mark <= "\udcff" for argument in arguments for mark in argument):
        _fail("an argument is not UTF-8")
    from services.cli.app import app

    app()


def _fail(told: str) -> None:
    print(told, file=sys.stderr)
    sys.exit(FAILED)
