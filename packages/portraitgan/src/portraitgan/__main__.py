"""`python -m portraitgan`."""

import sys

from portraitgan.commands.main import main

sys.exit(main())
