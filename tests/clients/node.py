"""Clients that are scripts for Node, run against a live server as programs of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.eventually import SLOWNESS

# In seconds: what a script may take on a fast machine.
TIMEOUT = 60


def run_node(script: str, base_url: str, env: Mapping[str, str]) -> str:
    """Run a script of this directory and return what it wrote; skips the test where there is no `node`.

    The script finds the address of the server in `BASE_URL`, and whatever else it is told in `env`. It fails the test
    when it ends with another code than 0, or does not end in time.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on PATH")
    given = {"PATH": os.environ["PATH"], "BASE_URL": base_url, **env}
    path = Path(__file__).parent / script
    with subprocess.Popen(
        [node, str(path)], env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            said, _ = running.communicate(timeout=TIMEOUT * SLOWNESS)
        except subprocess.TimeoutExpired:
            running.kill()
            pytest.fail(f"{script} did not end in {TIMEOUT * SLOWNESS} s:\n{running.communicate()[0]}")
    if running.returncode != 0:
        pytest.fail(f"{script} ended with {running.returncode}:\n{said}")
    return said
