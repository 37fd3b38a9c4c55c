"""From a path to a batch: which videos, which frames, decoded, framed, in company."""
