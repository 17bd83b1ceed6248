"""Run the command line; also what `accelerate launch -m finetune` starts."""

import sys

from finetune.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
