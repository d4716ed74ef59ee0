"""The space of parallel layouts, its evaluation and ranking."""
