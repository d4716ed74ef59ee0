"""Accelerators, nodes, links and measured kernel curves."""
