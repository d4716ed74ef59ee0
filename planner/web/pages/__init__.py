"""The pages: one module each, a function ``page()`` that draws it."""
