"""``python -m peft_studio``: hands arguments and environment to the command line."""

import os
import sys

from peft_studio.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
