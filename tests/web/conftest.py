"""A server of the page and a browser for the tests of a module; what Streamlit finds installed, looked for once."""

from __future__ import annotations

import functools
import importlib.util

import browser as b
import pytest


@pytest.fixture(scope="session", autouse=True)
def components():
    """For each page that is run without a browser Streamlit reads the metadata of every package that is installed, in search of
    components: a third of a second each time, and always the same answer."""
    if importlib.util.find_spec("streamlit") is None:
        yield
        return
    scanner = importlib.import_module("streamlit.components.v2.manifest_scanner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner, "scan_component_manifests", functools.cache(scanner.scan_component_manifests))
        yield


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
