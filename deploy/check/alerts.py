"""Holds alerts, their tests and their runbooks to each other, and the commands of the runbooks to the program.

    alerts.py DEPLOY PROGRAM

promtool has judged rules and tests by itself. This is what it cannot know: that no alert is without a test that sees it fire
and not fire, none without a runbook, and that no runbook tells a command that the program does not have.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

SECTIONS = ["**Symptoms.**", "**What it means.**", "**Look.**", "**Mend.**"]
SEVERITIES = {"critical", "warning", "info"}


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def sections(page: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return {anchor(heading): body for heading, body in zip(parts[1::2], parts[2::2])}


def tested(tests: dict) -> tuple[set[str], set[str]]:
    """Alerts that fire in a test; and those of them that do not fire at another time of the same test."""
    fire, quiet = set(), set()
    for test in tests["tests"]:
        times = [
            {name for sample in case["exp_samples"] for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
            for case in test["promql_expr_test"]
        ]
        named = set().union(*times)
        fire |= named
        quiet |= {name for name in named if any(name not in time for time in times)}
    return fire, quiet


def help_of(program: str, command: tuple[str, ...]) -> str | None:
    asked = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=False)
    return asked.stdout if asked.returncode == 0 else None


def commands(text: str):
    """Every command of the program, in blocks and in the text."""
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    for line in blocks + re.findall(r"`([^`\n]+)`", text):
        line = line.removeprefix("kubectl exec POD -- ").split(" | ")[-1]
        if line.startswith("contact-replicator "):
            yield line


def main() -> int:
    deploy, program = Path(sys.argv[1]), sys.argv[2]
    faults: list[str] = []
    rules = yaml.safe_load((deploy / "prometheus/rules/alerts.yml").read_text())
    fire, quiet = tested(yaml.safe_load((deploy / "prometheus/tests/alerts.yml").read_text()))
    names, linked = set(), set()
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        name, notes = rule["alert"], rule.get("annotations", {})
        names.add(name)
        if name not in fire:
            faults.append(f"{name}: no test sees it fire")
        elif name not in quiet:
            faults.append(f"{name}: no test sees it not fire")
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            faults.append(f"{name}: severity is none of {', '.join(sorted(SEVERITIES))}")
        for note in ("summary", "description", "runbook"):
            if not notes.get(note):
                faults.append(f"{name}: has no {note}")
        page, _, place = notes.get("runbook", "").partition("#")
        linked.add((page, place))
        found = sections(deploy / page).get(place) if page and (deploy / page).is_file() else None
        if found is None:
            faults.append(f"{name}: its runbook {page}#{place} is not there")
            continue
        if place != anchor(name):
            faults.append(f"{name}: its runbook is that of another")
        faults += [f"{page}#{place}: has no {part}" for part in SECTIONS if part not in found]
        if not re.search(r"```sh\n.+?```", found, re.DOTALL):
            faults.append(f"{page}#{place}: tells no command")
    faults += [f"tests: there is no alert {name}" for name in sorted(fire - names)]

    seen = 0
    helps: dict[tuple[str, ...], str | None] = {}
    for page in sorted((deploy / "runbooks").glob("*.md")) + [deploy / "README.md"]:
        where = page.relative_to(deploy)
        if page.parent.name == "runbooks" and page.name != "README.md":
            orphans = [place for place in sections(page) if (str(where), place) not in linked]
            faults += [f"{where}#{place}: no alert leads here" for place in orphans]
        for line in commands(page.read_text()):
            words = shlex.split(line)[1:]
            if not words or words[0].startswith("-"):
                continue
            seen += 1
            command = tuple(words[:1])
            told = helps.setdefault(command, help_of(program, command))
            if told is not None and "\nCommands:\n" in told:
                command = tuple(words[:2])
                told = helps.setdefault(command, help_of(program, command))
            if told is None:
                faults.append(f"{where}: {line}: there is no command {' '.join(command)}")
                continue
            for word in words[1:]:
                flag = word.split("=")[0]
                if flag.startswith("--") and not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", told):
                    faults.append(f"{where}: {line}: {' '.join(command)} has no {flag}")
        for target, place in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
            file = page if not target else page.parent / target
            if "://" in target:
                continue
            if not file.exists():
                faults.append(f"{where}: links to {target}, which is not there")
            elif place and file.suffix == ".md" and place not in {
                anchor(heading) for heading in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            }:
                faults.append(f"{where}: links to {target}#{place}, which is not there")
    for fault in faults:
        print(f"FAIL  {fault}")
    print(f"{len(names)} alerts with tests and runbooks, {seen} commands of runbooks, {len(faults)} faults")
    return 1 if faults or not names or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
