from __future__ import annotations

import pytest

from ingest import limits
from ingest.limits import Limits
from schema.errors import ConfigurationError


def test_the_limits_of_an_installation_that_sets_none_fit_each_other():
    """32 MiB a body, and room for several of the largest."""
    assert Limits().body_bytes == 32 * 1024 * 1024
    assert Limits().held_bytes >= 2 * Limits().body_bytes


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"body_bytes": 0}, "from 1 to"),
        ({"body_bytes": limits.BODY_BYTES_AT_MOST + 1, "held_bytes": 10**10}, "from 1 to"),
        ({"held_bytes": limits.BODY_BYTES - 1}, "raise the first or lower the second"),
        ({"held_deliveries": 0}, "at least 1"),
    ],
)
def test_limits_that_could_never_work_are_refused(wrong: dict[str, int], reason: str):
    """A setting that would refuse every delivery, or that storage can't keep, is an error at the start."""
    with pytest.raises(ConfigurationError, match=reason):
        Limits(**wrong)
