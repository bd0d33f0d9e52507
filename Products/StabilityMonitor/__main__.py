"""`python -m Products.StabilityMonitor`: the command `stabilitymonitor` where no script is
installed, as when the product is a plain folder.
"""

import sys

from .cli import main

sys.exit(main())
