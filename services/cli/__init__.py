"""The command line; every command that prints data accepts --json, and an error is one line and an exit status.

Exit status: 0 done; 1 failed, or refused; 2 wrong usage; 3 no answer in time; 130 interrupted; 141 broken pipe.
"""

from __future__ import annotations

import sys

FAILED = 1
NO_ANSWER = 3
BROKEN_PIPE = 141


def main() -> None:
    from services.errors import OperatorError

    try:
        _run(sys.argv[1:])
    except OperatorError as error:
        _fail(*map(str, error.args))
    except Exception as error:
        from services.cli.failures import explain

        message = explain(error)
        if message is None:
            raise
        _fail(message)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    # Health checks call it every few seconds, so it does not load the parser of options.
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


def _fail(*lines: str) -> None:
    from services.cli.lines import safe

    print("\n".join(map(safe, lines)), file=sys.stderr)
    sys.exit(FAILED)
