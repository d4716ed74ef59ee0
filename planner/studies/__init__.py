"""Questions over many plans: sweeps, limits, sizes, methods, equal terms."""
