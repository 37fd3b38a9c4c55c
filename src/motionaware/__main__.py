"""Runs the command line as `python -m motionaware`."""

import sys

from motionaware.cli import main

sys.exit(main())
