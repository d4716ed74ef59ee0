"""Memory and seconds of a job on a layout, reduced from operator rows."""
