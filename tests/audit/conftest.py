"""The articles, judged once for all tests of the audit."""

from __future__ import annotations

import pytest

from planner.audit.verdicts import Judgement, Reading, audit_articles


@pytest.fixture(scope="session")
def readings() -> tuple[Reading, ...]:
    """Every article under the reading in which most of its numbers hold."""
    return audit_articles()


@pytest.fixture(scope="session")
def judged(readings: tuple[Reading, ...]) -> dict[str, Judgement]:
    """Every claim's judgement."""
    return {j.id: j for r in readings for j in r.judgements}
