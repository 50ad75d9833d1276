"""Shortens the times of rules, so that an incident of minutes is over in seconds.

    scale.py FACTOR FROM TO    every rule file of FROM into TO; each `for`, range and offset divided by FACTOR, at least 3 s

Prometheus itself knows no such switch. Thresholds stay as they are.
"""

import re
import sys
from pathlib import Path

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main() -> int:
    factor, source, target = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

    def shorter(found: re.Match) -> str:
        seconds = int(found[2]) * UNITS[found[3]] / factor
        return f"{found[1]}{max(3, round(seconds))}s"

    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.yml")):
        (target / file.name).write_text(re.sub(r"(\[|for: |offset )(\d+)([smhd])\b", shorter, file.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
