"""Measured serving runs, their predictions and the fit of engines."""
