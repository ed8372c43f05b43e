"""The statistics program: ``python -m peft_studio.experiments``; see `outcome`."""

import json
import sys

from peft_studio.experiments.outcome import measure


def main() -> None:
    """Answers one request."""
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
