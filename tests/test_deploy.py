"""The deployment files agree with the gateway, and Prometheus takes their PromQL."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Settings
from gateway.metrics import Metrics
from gateway.series import Family

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SERIES = re.compile(r"\bloraplex[_:][a-zA-Z0-9_:]+")
SELECTOR = re.compile(r"\b(loraplex[_:][a-zA-Z0-9_:]+)\{([^}]*)\}")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
# Prometheus adds these to everything it scrapes.
SCRAPE_LABELS = {"job", "instance"}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


def _own_families() -> list[Family[Any]]:
    """The gateway's metrics without those that every process has."""
    families = [
        family for family in Metrics().series.families if family.name.startswith("loraplex_")
    ]
    assert families
    return families


def _gateway_series() -> dict[str, set[str]]:
    """Every series name the gateway makes, with its labels."""
    series: dict[str, set[str]] = {}
    for family in _own_families():
        for suffix in _SUFFIXES.get(family.kind, ("",)):
            labels = set(family.label_names) | ({"le"} if suffix == "_bucket" else set())
            series[family.name + suffix] = labels
    return series


def _rules() -> list[dict[str, Any]]:
    return [rule for group in _yaml(RULES)["groups"] for rule in group["rules"]]


def _recorded_series() -> dict[str, set[str]]:
    """Every series name the rules record, with the labels it is grouped by."""
    recorded = {}
    for rule in _rules():
        if "record" in rule:
            labels = _names(GROUPING.findall(rule["expr"]))
            recorded[rule["record"]] = labels - {"le"}
    return recorded


def _names(lists: list[str]) -> set[str]:
    return {name.strip() for names in lists for name in names.split(",") if name.strip()}


def _panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield f"{path.name}: {panel['title']}", panel


def _dashboard_expressions() -> list[tuple[str, str]]:
    return [
        (title, target["expr"]) for title, panel in _panels() for target in panel.get("targets", [])
    ]


def _expressions() -> list[tuple[str, str]]:
    """Every PromQL expression in the deployment files, with where it stands."""
    rules = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in _rules()]
    return rules + _dashboard_expressions()


def _promtool() -> str:
    """Prometheus' checker; only a laptop may lack it."""
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("promtool is missing: scripts/system-packages.sh brings it")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def test_every_series_in_dashboards_and_rules_exists() -> None:
    known = _gateway_series() | _recorded_series()
    used = {
        (where, name) for where, expression in _expressions() for name in SERIES.findall(expression)
    }
    assert used
    assert {(where, name) for where, name in used if name not in known} == set()


def test_every_label_in_dashboards_and_rules_exists() -> None:
    known = _gateway_series() | _recorded_series()
    wrong = []
    for where, expression in _expressions():
        used = set(SERIES.findall(expression))
        may_group = set().union(*(known[name] for name in used)) | SCRAPE_LABELS
        wrong += [(where, label) for label in _names(GROUPING.findall(expression)) - may_group]
        for name, selector in SELECTOR.findall(expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            wrong += [(where, label) for label in labels - known[name] - SCRAPE_LABELS]
    assert wrong == []


def test_every_series_of_the_gateway_is_on_the_dashboard_or_is_for_operators_only() -> None:
    shown = {
        name for _, expression in _dashboard_expressions() for name in SERIES.findall(expression)
    }
    recorded = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
    shown |= {series for name in shown & set(recorded) for series in SERIES.findall(recorded[name])}
    of_a_kind = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown}
    missing = {
        family.name
        for family in _own_families()
        if family.name.removesuffix("_total") not in of_a_kind
    }
    assert missing == {"loraplex_other_requests_total"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_panel_asks_something_and_says_what_it_shows(path: Path) -> None:
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        assert all(target["expr"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_panels_do_not_overlap_and_have_their_own_ids(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_says_what_happened_how_grave_it_is_and_is_tested() -> None:
    tested = {
        check["alertname"]
        for test in _yaml(DEPLOY / "prometheus" / "rules.test.yml")["tests"]
        for check in test["alert_rule_test"]
        if check.get("exp_alerts")
    }
    alerts = [rule for rule in _rules() if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == tested
    for rule in alerts:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_rules_fire_on_what_they_are_for() -> None:
    folder = DEPLOY / "prometheus"
    command = [_promtool(), "test", "rules", "rules.test.yml"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_takes_the_configuration() -> None:
    command = [_promtool(), "check", "config", "--syntax-only", "prometheus.yml"]
    result = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_takes_every_expression_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(_dashboard_expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [_promtool(), "check", "rules", "--lint=none", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_dashboard_and_its_data_source_are_where_grafana_looks() -> None:
    compose = _yaml(ROOT / "compose.yaml")
    mounts = dict(entry.split(":")[:2] for entry in compose["services"]["grafana"]["volumes"])
    provisioning = DEPLOY / "grafana" / "provisioning"
    provider = _yaml(provisioning / "dashboards" / "loraplex.yml")["providers"][0]
    source = _yaml(provisioning / "datasources" / "prometheus.yml")["datasources"][0]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_the_metrics_port_and_reads_the_rules() -> None:
    config = _yaml(DEPLOY / "prometheus" / "prometheus.yml")
    port = Settings.model_fields["metrics_port"].default
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": [f"gateway:{port}"]}]
    compose = _yaml(ROOT / "compose.yaml")
    mounted = [entry.split(":")[1] for entry in compose["services"]["prometheus"]["volumes"]]
    assert set(config["rule_files"]) <= set(mounted)


def test_compose_mounts_only_files_that_exist() -> None:
    for name, service in _yaml(ROOT / "compose.yaml")["services"].items():
        sources = [entry.split(":")[0] for entry in service.get("volumes", [])]
        for source in sources:
            assert not source.startswith(".") or (ROOT / source).exists(), (name, source)


def test_compose_gives_no_service_more_than_it_needs() -> None:
    for name, service in _yaml(ROOT / "compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${LORAPLEX_BIND:-127.0.0.1}:")), (name, port)
        image = service["image"]
        assert re.search(r":v?\d+\.\d+\.\d+", image), f"{name}: {image} is not pinned"


def test_compose_keeps_the_metrics_port_on_its_network_and_demands_a_key() -> None:
    gateway = _yaml(ROOT / "compose.yaml")["services"]["gateway"]
    assert not [port for port in gateway["ports"] if "9464" in port]
    assert gateway["expose"] == ["9464"]
    assert gateway["environment"]["LORAPLEX_ADMIN_KEY"].startswith("${LORAPLEX_ADMIN_KEY:?")


def test_compose_leaves_the_gateway_time_to_drain() -> None:
    gateway = _yaml(ROOT / "compose.yaml")["services"]["gateway"]
    grace_s = int(gateway["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["timeouts"].default.drain_s


def test_the_cuda_file_names_a_service_of_compose() -> None:
    services = _yaml(DEPLOY / "compose.cuda.yaml")["services"]
    assert set(services) <= set(_yaml(ROOT / "compose.yaml")["services"])
