"""Judges what the chart renders, and takes it apart for the tools that judge the rest.

    chart.py MANIFEST OUT    writes the settings to OUT.toml, and the rules, where there are any, to OUT.rules.yml
"""

import json
import sys
from pathlib import Path

import yaml


def judge(objects: list[dict]) -> list[str]:
    faults = []
    kinds = {kind: [each for each in objects if each["kind"] == kind] for kind in {each["kind"] for each in objects}}
    for kind in ("StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "Service", "ServiceAccount", "ConfigMap"):
        if kind not in kinds:
            return [f"there is no {kind}"]
    workers = kinds["StatefulSet"][0]["spec"]
    pod, labels = workers["template"]["spec"], workers["template"]["metadata"]["labels"]
    (worker,) = pod["containers"]

    def require(holds, text):
        if not holds:
            faults.append(text)

    for each in [workers["selector"], kinds["PodDisruptionBudget"][0]["spec"]["selector"], kinds["NetworkPolicy"][0]["spec"]["podSelector"]]:
        require(each["matchLabels"].items() <= labels.items(), f"the selector {each} finds no worker")
    ports = {port["name"] for port in worker["ports"]}
    for service in kinds["Service"]:
        require(service["spec"]["selector"].items() <= labels.items(), f"{service['metadata']['name']} finds no worker")
        for port in service["spec"]["ports"]:
            require(port["targetPort"] in ports, f"{service['metadata']['name']} leads to {port['targetPort']}, which is no port")
    names = {service["metadata"]["name"] for service in kinds["Service"]}
    require(workers["serviceName"] in names, "the StatefulSet has no service")
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        asked = worker[probe]["httpGet"]
        require(asked["path"] == path and asked["port"] in ports, f"{probe} asks for {asked}")
    safe = worker["securityContext"]
    require(safe["readOnlyRootFilesystem"] and not safe["allowPrivilegeEscalation"], "the worker may do more than it needs")
    require(safe["capabilities"]["drop"] == ["ALL"] and pod["securityContext"]["runAsNonRoot"], "the worker may do more than it needs")
    require(not pod["automountServiceAccountToken"], "the worker has a token of the API server")
    require("requests" in worker["resources"] and "memory" in worker["resources"]["limits"], "the worker has no resources")
    volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in workers["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount for mount in worker["volumeMounts"]}
    require(volumes == mounts.keys(), f"volumes {volumes} and mounts {set(mounts)} differ")
    require(not any("secretKeyRef" in str(variable) for variable in worker["env"]), "a secret is in the environment")
    monitors = kinds.get("ServiceMonitor", [])
    for monitor in monitors:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [service for service in kinds["Service"] if wanted <= service["metadata"]["labels"].items()]
        require(len(found) == 1, f"the ServiceMonitor finds {len(found)} services")
        for endpoint in monitor["spec"]["endpoints"]:
            require(endpoint["port"] in {port["name"] for service in found for port in service["spec"]["ports"]}, "it scrapes no port")
    for each in objects:
        if each["kind"] == "ConfigMap":
            for name, text in each["data"].items():
                if name.endswith(".json"):
                    json.loads(text)
    return faults


def main() -> int:
    manifest, out = Path(sys.argv[1]), sys.argv[2]
    objects = [each for each in yaml.safe_load_all(manifest.read_text()) if each]
    faults = judge(objects)
    settings = [each["data"]["config.toml"] for each in objects if each["kind"] == "ConfigMap" and "config.toml" in each["data"]]
    Path(out + ".toml").write_text(settings[0])
    for each in objects:
        if each["kind"] == "PrometheusRule":
            Path(out + ".rules.yml").write_text(yaml.safe_dump(each["spec"]))
    for fault in faults:
        print(f"FAIL  {manifest.name}: {fault}")
    print(f"{manifest.name}: {len(objects)} objects, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
