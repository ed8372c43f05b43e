"""``python -m peft_studio``: hands arguments and environment to the command line."""

import os
import sys

from peft_studio.cli.main import main

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin on cores that others need
    sys.exit(main(sys.argv[1:], os.environ))
