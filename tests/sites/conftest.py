"""One relay for all tests of a file."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["hub.py", "one_site.py", "site_job.py"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    from hub import Hub

    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.stop()
