"""Read data sets: from a path through decoding, cropping and augmentation to a batch of clips."""
