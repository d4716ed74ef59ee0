"""One training plan: composed, explained, mapped in memory."""
