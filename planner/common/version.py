"""The version of this package and the name it is installed by: the one place that states them."""

VERSION = "0.1.0"
DISTRIBUTION = "llm-capacity-planner"
"""What ``pip install`` takes: ``planner`` on PyPI is another project. pyproject.toml says the same (a test compares)."""


def install_with(extra: str) -> str:
    """The command that adds an optional part.

    >>> install_with("ray")
    "pip install 'llm-capacity-planner[ray]'"
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"
