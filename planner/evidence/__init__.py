"""Measured runs, predictions of them, the fit and its residuals."""
