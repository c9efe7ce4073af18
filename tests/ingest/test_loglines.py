from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LINES = """
import logging, structlog
from ingest import loglines

loglines.configure()
structlog.get_logger("simtrail.x").info("one", n=1, text="two\\nlines")
logging.getLogger("uvicorn.error").info("nobody asked")
logging.getLogger("uvicorn.error").warning("from %s", "uvicorn")
try:
    secret_in_a_local_variable = "s3cret"
    raise ValueError("a defect")
except ValueError as error:
    logging.getLogger("uvicorn.error").error("failed", exc_info=error)
    structlog.get_logger("simtrail.x").exception("failed")
"""


def test_every_line_is_one_json_object_with_its_time_and_level():
    """Ours and the libraries', tracebacks and line breaks included; standard output stays empty."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LINES], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["logger"], line["event"]) for line in lines] == [
        ("info", "simtrail.x", "one"),
        ("warning", "uvicorn.error", "from uvicorn"),
        ("error", "uvicorn.error", "failed"),
        ("error", "simtrail.x", "failed"),
    ]
    assert lines[0]["text"] == "two\nlines"
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert all("ValueError: a defect" in line["exception"] for line in lines[2:])
    assert "s3cret" not in done.stderr.replace('secret_in_a_local_variable = "s3cret"', "")
