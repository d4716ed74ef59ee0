"""A server of the page and a browser for the tests of a module."""

from __future__ import annotations

import browser as b
import pytest


@pytest.fixture(scope="module")
def address():
    with b.server() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def page(address, folder):
    with b.browser(downloads=folder) as driver:
        yield driver
