"""`python -m Products.StabilityMonitor`: the command where there is no script."""

import sys

from .cli import main

sys.exit(main())
