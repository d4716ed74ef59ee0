"""Scenario files: read, edited, picked from a search."""
