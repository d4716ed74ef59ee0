"""Dated prices, ownership and the carbon of electricity."""
