"""`python -m mosld`."""

import sys

from mosld.cli import main

sys.exit(main())
