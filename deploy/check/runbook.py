"""Prints the commands of an alert's runbook, a line each.

    runbook.py DEPLOY ALERT
"""

import re
import sys
from pathlib import Path

import yaml

from alerts import sections


def main() -> int:
    deploy, alert = Path(sys.argv[1]), sys.argv[2]
    groups = yaml.safe_load((deploy / "prometheus/rules/alerts.yml").read_text())["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["alert"] == alert]
    page, _, place = rule["annotations"]["runbook"].partition("#")
    for block in re.findall(r"```sh\n(.*?)```", sections(deploy / page)[place], re.DOTALL):
        print(block, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
