"""What the documentation is made with: blocks that are run, pages and pictures that code makes."""
