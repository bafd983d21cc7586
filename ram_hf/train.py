"""`accelerate launch -m ram_hf.train --config FILE` is `ram-hf train` in as many processes as Accelerate starts."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
