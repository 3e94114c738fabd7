"""What the file here imports: project.py."""

import sys
from pathlib import Path

collect_ignore = ["project.py", "runs.py", "spy"]


def pytest_configure(config):
    """Let check_flare.py import project.py."""
    sys.path.insert(0, str(Path(__file__).parent))
