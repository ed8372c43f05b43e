"""``python -m peft_studio``, or ``peft-studio`` when installed: hands arguments and environment to the commands."""

import os
import sys

from peft_studio.cli.main import main
from peft_studio.files import write_privately


def run() -> int:
    """Runs the command line of this process; returns the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin on cores that others need
    write_privately()
    return main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(run())
