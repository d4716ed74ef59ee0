"""Units, errors, validated specs, files and tables: what every package may use."""
