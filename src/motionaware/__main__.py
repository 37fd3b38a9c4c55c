"""`python -m motionaware`."""

import sys

from motionaware.cli import main

sys.exit(main())
