"""Holds compose.yaml to itself and to the files beside it.

    compose.py FILE             checks it
    compose.py FILE service S   prints the command of service S, a word a line
    compose.py FILE variables S prints its environment as NAME=VALUE
    compose.py FILE kafka       prints the settings of the node as Kafka's properties
"""

import re
import sys
from pathlib import Path

import yaml

KEYS = {
    "image", "build", "command", "environment", "read_only", "cap_drop", "security_opt", "stop_grace_period", "restart",
    "depends_on", "volumes", "ports", "healthcheck",
}  # fmt: skip
STARTED = {"service_started", "service_healthy", "service_completed_successfully"}


def properties(variables: dict) -> list[str]:
    """As the image of the Apache project reads them: KAFKA_A_B is a.b, __ is _, ___ is -."""
    lines = []
    for name, value in variables.items():
        key = name.removeprefix("KAFKA_").lower()
        key = key.replace("___", "\0").replace("__", "\1").replace("_", ".").replace("\0", "-").replace("\1", "_")
        lines.append(f"{key}={value}")
    return lines


def check(file: Path, compose: dict) -> list[str]:
    faults = []
    services, volumes = compose["services"], set(compose.get("volumes", {}))
    used, taken = set(), {}
    for name, service in services.items():
        say = lambda text: faults.append(f"{name}: {text}")
        for key in service.keys() - KEYS:
            say(f"{key} is no key that is known here")
        tag = service.get("image", "").rpartition(":")[2]
        if not tag or tag == "latest" or "/" in tag:
            say("its image has no version")
        if "build" in service:
            context = (file.parent / service["build"]["context"]).resolve()
            if not (context / service["build"]["dockerfile"]).is_file():
                say("its Dockerfile is not there")
            if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
                say("it is ours and may do more than it needs")
        needed = service.get("depends_on", {})
        needed = {other: {"condition": "service_started"} for other in needed} if isinstance(needed, list) else needed
        for other, how in needed.items():
            if other not in services:
                say(f"depends on {other}, which is not there")
            elif how["condition"] not in STARTED:
                say(f"{how['condition']} is no condition")
            elif how["condition"] == "service_healthy" and "test" not in services[other].get("healthcheck", {}):
                say(f"waits for the health of {other}, which has no check")
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            if source.startswith("."):
                if not (file.parent / source).exists():
                    say(f"mounts {source}, which is not there")
                if mode != ["ro"]:
                    say(f"may write to {source}")
            elif source not in volumes:
                say(f"mounts the volume {source}, which is not declared")
            used.add(source)
            if not target.startswith("/"):
                say(f"mounts to {target}")
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port):
                say(f"publishes {port} beyond this machine")
            outer = port.split(":")[1]
            if outer in taken:
                say(f"publishes {outer}, as {taken[outer]} does")
            taken[outer] = name
        # A name of a host in what it is told is that of a service.
        for text in [*map(str, service.get("command", [])), *map(str, (service.get("environment") or {}).values())]:
            for host in re.findall(r"(?:^|://|@)([a-z][a-z0-9-]*):\d+", text):
                if host not in services:
                    say(f"speaks to {host}, which is no service")
    faults += [f"the volume {volume} is not used" for volume in sorted(volumes - used)]
    for place, pattern in {
        "compose/worker.toml": r'(?:://|")([a-z][a-z0-9-]*):\d+',
        "prometheus/prometheus.yml": r'"([a-z][a-z0-9-]*):\d+"',
        "grafana/provisioning/datasources/prometheus.yml": r"//([a-z][a-z0-9-]*):\d+",
    }.items():
        hosts = re.findall(pattern, (file.parent / place).read_text())
        faults += [f"{place} names {host}, which is no service" for host in hosts if host not in services]
        if not hosts:
            faults.append(f"{place} names no service")
    return faults


def main() -> int:
    file = Path(sys.argv[1])
    compose = yaml.safe_load(file.read_text())
    what, name = (sys.argv[2:] + ["check", ""])[0], sys.argv[-1]
    if what == "service":
        print("\n".join(map(str, compose["services"][name]["command"])))
    elif what == "variables":
        print("\n".join(f"{key}={value}" for key, value in compose["services"][name]["environment"].items()))
    elif what == "kafka":
        print("\n".join(properties(compose["services"]["kafka"]["environment"])))
    else:
        faults = check(file, compose)
        for fault in faults:
            print(f"FAIL  {file.name}: {fault}")
        print(f"{len(compose['services'])} services, {len(faults)} faults")
        return 1 if faults else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
