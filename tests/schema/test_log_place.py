from __future__ import annotations

from pathlib import Path

import pytest

from schema.errors import ConfigurationError
from schema.log_place import Server, place, url


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///data/log.db", Path("data/log.db")),
        ("sqlite:////var/lib/simtrail/log.db", Path("/var/lib/simtrail/log.db")),
        ("sqlite:////a%20b/log.db", Path("/a b/log.db")),
        ("postgresql://u@h1,h2/d", Server("postgresql://u@h1,h2/d")),
        ("postgres:///d", Server("postgres:///d")),
    ],
)
def test_a_url_names_a_file_or_a_server(written, meant):
    """Three slashes begin a relative path, four one from the root; a server's URL is libpq's."""
    assert place(written) == meant


@pytest.mark.parametrize("written", ["", "log.db", "sqlite://log.db", "sqlite:///", "mysql://u:geheim@h/d"])
def test_no_other_place_is_taken(written):
    """The message says what would be, and repeats nothing that may be secret."""
    with pytest.raises(ConfigurationError, match="sqlite:///PATH") as raised:
        place(written)
    assert "geheim" not in str(raised.value)


def test_a_path_comes_back_from_its_url(tmp_path):
    """Whatever is in it."""
    odd = tmp_path / "a b%20c?d#e.db"
    assert place(url(odd)) == odd


def test_a_server_is_shown_without_its_secrets():
    """Neither the password nor the options, in any form."""
    server = place("postgresql://u:geheim@h1:5433,h2/d?sslpassword=geheim")
    assert str(server) == "postgresql://u@h1:5433,h2/d"
    assert "geheim" not in repr(server)
    assert "geheim" in url(server)
