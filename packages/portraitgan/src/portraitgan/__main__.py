"""`python -m portraitgan`."""

import sys

from portraitgan.cli import main

sys.exit(main())
