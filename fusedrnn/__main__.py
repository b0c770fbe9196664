"""`python -m fusedrnn`: the command, where its script is not on the path."""

import sys

from fusedrnn.cli import main

sys.exit(main())
