"""motionaware: make any image or video network motion-aware."""
