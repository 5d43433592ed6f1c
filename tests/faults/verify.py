"""What `foldwork verify` says of a store."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.eventually import LATE
from tests.services.processes import ROOT, environment


def verified(database_url: str) -> list[str]:
    """Return what the command found."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "verify", "--json"],
        env={**environment(), "FOLDWORK_DATABASE_URL": database_url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LATE,
    )
    if done.returncode == 0:
        return []
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [json.dumps(line) for line in lines] or [done.stderr.strip()]
