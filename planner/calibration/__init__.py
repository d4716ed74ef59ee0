"""Records of the measuring harness: read, fitted, compared, written as profiles."""
