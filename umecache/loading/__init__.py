"""Cached features for a training loop of one's own: padded batches with masks and labels, in NumPy or PyTorch."""
