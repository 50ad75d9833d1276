"""Asks a running Prometheus every expression of the rules, the dashboards and the runbooks.

    expressions.py DEPLOY METRICS PROMETHEUS WORKER_METRICS…

None may fail, and none may name a metric or a label that does not exist. What exists is told by the table of METRICS.md, to which a
test of the project holds the program; each worker's /metrics may have no others. A series that has no sample yet is in the
table all the same.
"""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

PREFIX = "contact_replicator_"
# Told by Prometheus itself, the kubelet and node_exporter; a worker has none of them.
FOREIGN = {
    "up",
    "ALERTS",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
}
TARGET_LABELS = {"job", "instance"}
WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def table(metrics: Path) -> dict[str, set[str]]:
    """The labels of each metric."""
    text = metrics.read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    return {PREFIX + name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def exposed(text: str) -> dict[str, str]:
    """The type of each metric that is exposed."""
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))


def selectors(expression: str):
    """Each metric that an expression names, with the labels that it is selected by."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    bare = re.sub(r"#.*", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    for name, _, inside in re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(\s*\{([^}]*)\})?(?!\s*\()(?![\w:])", bare):
        if name not in WORDS:
            yield name, set(re.findall(r"(\w+)\s*[=!]", inside))


def of_rules(file: Path):
    for group in yaml.safe_load(file.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"{file.name} {rule.get('alert') or rule['record']}", rule["expr"]


def of_dashboard(file: Path):
    board = json.loads(file.read_text())
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{file.name} ${variable['name']}", re.match(r"label_values\((.*), \w+\)$", variable["definition"])[1]
    for annotation in board["annotations"]["list"]:
        yield f"{file.name} annotation {annotation['name']}", annotation["expr"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)), f"{file.name}: an id of a panel stands twice"
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"{file.name} {panel['title']}", target["expr"]


def of_page(file: Path):
    for block in re.findall(r"```promql\n(.*?)```", file.read_text(), re.DOTALL):
        for line in block.splitlines():
            yield f"{file.name} {line[:60]}", line.split("  #")[0]


def main() -> int:
    deploy, readme, prometheus, *workers = sys.argv[1:]
    deploy, faults = Path(deploy), []
    known = table(Path(readme))
    kinds: dict[str, str] = {}
    for worker in workers:
        kinds |= exposed(get(worker))
    faults += [f"a worker exposes {name}, which README does not have" for name in sorted(kinds.keys() - known.keys())]

    rules = sorted((deploy / "prometheus/rules").glob("*.yml"))
    pages = sorted((deploy / "runbooks").glob("*.md")) + [Path(readme)]
    asked = [entry for file in rules for entry in of_rules(file)]
    recorded = {rule["record"] for file in rules for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "record" in rule}
    asked += [entry for file in sorted((deploy / "grafana/dashboards").glob("*.json")) for entry in of_dashboard(file)]
    asked += [entry for page in pages for entry in of_page(page)]

    labels = {}
    for name, own in known.items():
        for suffix in ["", "_bucket", "_count", "_sum"] if kinds.get(name) == "histogram" else [""]:
            if not (suffix == "" and kinds.get(name) == "histogram"):
                labels[name + suffix] = own | TARGET_LABELS | ({"le"} if suffix == "_bucket" else set())
    answered = 0
    for where, expression in asked:
        expression = expression.replace("$job", ".*").replace("$crm", ".*")
        for name, by in selectors(expression):
            if name in FOREIGN or name in recorded:
                continue
            if name not in labels:
                faults.append(f"{where}: there is no metric {name}")
            elif by - labels[name]:
                faults.append(f"{where}: {name} has no label {', '.join(sorted(by - labels[name]))}")
        query = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            answer = json.loads(get(query))
            answered += bool(answer["data"]["result"])
        except urllib.error.HTTPError as error:
            faults.append(f"{where}: {json.loads(error.read())['error']}")
    for name in sorted(recorded):
        told = json.loads(get(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": name})))
        if not told["data"]["result"]:
            faults.append(f"{name} is recorded and has no value")
    # What is recorded is evaluated by Prometheus itself, whose own word on failures counts.
    for group in json.loads(get(f"{prometheus}/api/v1/rules"))["data"]["groups"]:
        faults += [f"{rule['name']}: {rule['lastError']}" for rule in group["rules"] if rule.get("health") != "ok"]
    for fault in faults:
        print(f"FAIL  {fault}")
    print(f"{len(asked)} expressions, {answered} with a value, {len(faults)} faults")
    return 1 if faults or answered < len(asked) // 2 else 0


if __name__ == "__main__":
    sys.exit(main())
