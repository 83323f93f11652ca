"""Pictures: facts from headers, memory estimates, the decision how to decode, and thumbnails made by a child."""
