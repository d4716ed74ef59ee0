"""Published claims judged: figures, expressions, verdicts."""
