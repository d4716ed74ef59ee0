"""Architectures, exact parameter counts, the catalog and config.json readers."""
