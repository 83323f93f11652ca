"""Camera RAW files: what they are, and the pictures inside them, found by a few small reads."""
