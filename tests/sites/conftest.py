"""One relay for all tests of a file."""

import sys
from pathlib import Path

import pytest

collect_ignore = ["cut.py", "hub.py", "one_site.py", "site_job.py"]


def pytest_configure(config):
    """What the files here share: cut.py, hub.py and site_job.py."""
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    from hub import Hub

    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.stop()
