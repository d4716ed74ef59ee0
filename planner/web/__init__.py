"""The web page: pages that ask ``planner`` and draw what it answers. No formula lives here.

``main`` puts a page together; ``state`` keeps the scenario in the session and in the link; ``guard`` refuses what must not come
from the web; ``answers`` asks the planner and remembers; ``inputs`` are the controls; ``charts`` the figures; ``text`` the words
in two languages; ``download`` and ``report`` what a user takes along; ``pages`` one module per page.
"""
