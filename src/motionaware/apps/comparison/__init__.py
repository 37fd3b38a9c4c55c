"""The parts of `motionaware compare`: runs, their predictions, tables, pictures, pages."""
