"""Transforms of clips: which frames are sampled, how they are cropped, flipped and augmented."""
