"""What the documentation is made with: blocks that are run, pages and pictures that code makes."""

AS_OF = "2026-11-29"
"""The day of every answer in the documentation and in the tests (PLANNER_TODAY): prices age, and printed answers with them."""
