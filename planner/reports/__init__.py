"""Everything that prints or draws for a terminal or a file."""
