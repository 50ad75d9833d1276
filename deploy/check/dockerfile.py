"""Reads a Dockerfile for what can be tried without a container engine.

    dockerfile.py FILE steps FOLDER    writes each RUN step as a script into FOLDER, and says what else is wrong
    dockerfile.py FILE health          prints the command of HEALTHCHECK, a word a line
    dockerfile.py FILE user            prints the user that it runs as
"""

import json
import re
import sys
from pathlib import Path

INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions(text: str):
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in whole.splitlines():
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


def steps(file: Path, folder: Path) -> list[str]:
    faults, stages, number = [], set(), 0
    ignored = file.with_name(file.name + ".dockerignore").read_text().split("\n")
    sent = {line[1:] for line in ignored if line.startswith("!")}
    root = file.parent.parent
    faults += [f"the context lacks {name}" for name in sorted(sent) if not (root / name).exists()]
    for name, rest in instructions(file.read_text()):
        if name not in INSTRUCTIONS:
            faults.append(f"{name} is no instruction that is known here")
        if name == "FROM" and " AS " in rest:
            stages.add(rest.split(" AS ")[1])
        if name == "COPY":
            words = rest.split()
            stage = next((word.split("=")[1] for word in words if word.startswith("--from=")), None)
            sources = [word for word in words if not word.startswith("--")][:-1]
            if stage is not None and stage not in stages:
                faults.append(f"COPY {rest}: there is no stage {stage}")
            for source in sources if stage is None else []:
                if not (root / source).exists() or not (source == "." or source.split("/")[0] in sent):
                    faults.append(f"COPY {rest}: {source} is not in the context")
        if name in ("ENTRYPOINT", "CMD", "VOLUME") and rest.startswith("["):
            json.loads(rest)
        if name == "RUN":
            number += 1
            command = re.sub(r"^(--\w+=\S+\s+)+", "", rest)
            (folder / f"run-{number}.sh").write_text(f"set -eu\n{command}\n")
    if not any(name == "RUN" for name, _ in instructions(file.read_text())):
        faults.append("there is no RUN step")
    return faults


def main() -> int:
    file, what = Path(sys.argv[1]), sys.argv[2]
    last = {name: rest for name, rest in instructions(file.read_text())}
    if what == "steps":
        faults = steps(file, Path(sys.argv[3]))
        for fault in faults:
            print(f"FAIL  {file.name}: {fault}")
        return 1 if faults else 0
    if what == "health":
        print("\n".join(json.loads(last["HEALTHCHECK"].split("CMD ", 1)[1])))
    else:
        print(last["USER"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
