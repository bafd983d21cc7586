"""`python -m ram_hf` is `ram-hf`."""

import sys

from .cli import main

sys.exit(main())
