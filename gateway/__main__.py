"""`python -m gateway`: the same as `tailrace`."""

import sys

from gateway.cli import main

sys.exit(main())
