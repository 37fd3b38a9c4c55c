"""Networks made motion-aware: backbones, insertion, recognizers and their files."""
