"""`python -m portraitgan.bench deformation|step|loader`: a table, with JSON=1 one JSON line at the end."""

import sys

from portraitgan.bench.command import main

sys.exit(main())
