"""The operator rows: one module per block, each row a kernel-like piece of work."""
