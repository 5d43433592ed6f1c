"""The alerts: their metrics and labels are those that a running service has, and their runbooks exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.services.http.api import opened

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]
]
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_METRIC = re.compile(r"\bfoldwork_\w+")
_BY = re.compile(r"\bby \(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_LABEL_SHOWN = re.compile(r"\$labels\.(\w+)")


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_is_complete(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = _HEADING.findall((DOCS / page).read_text("utf-8"))
    assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


async def test_every_metric_and_label_of_an_alert_exists(migrated_url: str) -> None:
    async with opened(migrated_url) as api:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute("INSERT INTO followers (name) VALUES ('relay')")
            conn.execute(
                "INSERT INTO dead_letters (id, arrived, key, headers, body, bytes, sha256, code, detail, pointer,"
                " fingerprint) VALUES ('l', '1', '', '', '', 0, '', 'poison', '', '', '')"
            )
        await api.get("/v1/tasks/none")
        text = (await api.client.get("/metrics")).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for rule in RULES:
        names = _METRIC.findall(rule["expr"])
        assert names, rule["alert"]
        for name in names:
            assert name in labels, f"{rule['alert']}: there is no metric {name}"
            by = [label.strip() for part in _BY.findall(rule["expr"]) for label in part.split(",")]
            shown = _LABEL_SHOWN.findall(rule["annotations"]["summary"])
            for label in [*by, *shown, *_MATCHER.findall(rule["expr"])]:
                assert label in labels[name], f"{rule['alert']}: {name} has no label {label}"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not there")
def test_promtool_accepts_the_alerts() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
