from __future__ import annotations

import pytest

from schema.aliases import BILL_ALIASES, SIM_ALIASES
from schema.configuration import QUEUES, Configuration, digest, load, operation
from schema.errors import ConfigurationError


@pytest.fixture
def configured(tmp_path):
    def write(text: str) -> Configuration:
        path = tmp_path / "simtrail.toml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    return write


def test_no_file_means_the_defaults(tmp_path, configured):
    """Where there is no file, or an empty one, the defaults hold."""
    assert load(tmp_path / "none.toml") == configured("") == Configuration()
    assert Configuration().time_zone == "Europe/Moscow"
    assert Configuration().redelivery_window_s == 86_400


def test_a_file_adds_to_the_defaults(configured):
    """What a file says is added; what it doesn't say stays."""
    configuration = configured("""
        time_zone = "Asia/Yekaterinburg"
        redelivery_window_s = 0
        [sim_aliases]
        iccid = ["card_no", "iccid"]
        [bill_aliases]
        amount = ["сумма"]
        [statuses]
        "На складе" = "inactive"
        "active" = "pending"
        [queues]
        sim_suspend = "lock"
        LOCK = "reboot"
        [working_days]
        2026-01-09 = true
        2026-12-31 = false
    """)
    assert configuration.time_zone == "Asia/Yekaterinburg"
    assert configuration.redelivery_window_s == 0
    assert configuration.sim_aliases == {**SIM_ALIASES, "iccid": (*SIM_ALIASES["iccid"], "card_no")}
    assert configuration.bill_aliases == {**BILL_ALIASES, "amount": (*BILL_ALIASES["amount"], "сумма")}
    assert configuration.statuses["наскладе"] == "inactive"
    assert configuration.statuses["active"] == "pending"
    assert configuration.statuses["заблокирована"] == "blocked"
    assert operation(configuration, "Sim-Suspend") == "lock"
    assert operation(configuration, "lock") == "reboot"
    assert configuration.working_days == {"2026-01-09": True, "2026-12-31": False}


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("zone = 1", "zone", "time_zone"),
        ('time_zone = "Mars/Olympus"', "time_zone", "Europe/Moscow"),
        ('time_zone = "../etc/passwd"', "time_zone", "Europe/Moscow"),
        ('time_zone = "Europe"', "time_zone", "Europe/Moscow"),
        ('time_zone = ""', "time_zone", "Europe/Moscow"),
        ("time_zone = 3", "time_zone", "Europe/Moscow"),
        ("redelivery_window_s = -1", "redelivery_window_s", "whole seconds"),
        ("redelivery_window_s = true", "redelivery_window_s", "whole seconds"),
        ("redelivery_window_s = 1.5", "redelivery_window_s", "whole seconds"),
        ("redelivery_window_s = 999999999999", "redelivery_window_s", "whole seconds"),
        ("sim_aliases = 1", "sim_aliases", "a table"),
        ('[sim_aliases]\niccd = ["x"]', "sim_aliases.iccd", "iccid"),
        ('[sim_aliases]\niccid = "x"', "sim_aliases.iccid", "a list of names"),
        ("[sim_aliases]\niccid = [1]", "sim_aliases.iccid", "a list of names"),
        ('[sim_aliases]\niccid = ["_"]', "sim_aliases.iccid", "a list of names"),
        ('[sim_aliases]\ntariff = ["PIN 1"]', "sim_aliases.tariff", "any other name"),
        ('[bill_aliases]\nbalance = ["x"]', "bill_aliases.balance", "amount"),
        ('[statuses]\nfoo = "actve"', "statuses.foo", "active, blocked"),
        ("[statuses]\nfoo = 1", "statuses.foo", "active, blocked"),
        ('[queues]\nfoo = "explode"', "queues.foo", "lock, unlock"),
        ("[queues]\nfoo = ['lock']", "queues.foo", "lock, unlock"),
        ("[working_days]\n2026-02-30 = true", "working_days.2026-02-30", "dates such as"),
        ("[working_days]\n20260101 = true", "working_days.20260101", "dates such as"),
        ('[working_days]\n2026-01-01 = "no"', "working_days.2026-01-01", "true, false"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(configured, text, key, allowed):
    """An error names the file, the key, and what may stand there."""
    with pytest.raises(ConfigurationError) as caught:
        configured(text)
    assert f"simtrail.toml: {key} " in str(caught.value)
    assert allowed in str(caught.value).split("allowed:")[1]


@pytest.mark.parametrize("content", [b"a = ", b"\xff", None])
def test_an_unreadable_file_is_an_error(tmp_path, content):
    """What is no TOML, no UTF-8 or no file can't be read, and says so."""
    path = tmp_path / "simtrail.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"simtrail\.toml can't be read"):
        load(path)


def test_the_digest_is_of_what_is_effective(configured):
    """It is the same however the same thing is said, and differs for any difference."""
    plain = digest(Configuration())
    assert len(plain) == 64
    assert int(plain, 16)
    assert digest(configured('[queues]\nlock = "lock"\n[sim_aliases]\niccid = ["icc"]')) == plain
    assert digest(configured('[queues]\n"a b" = "lock"\nc = "ping"')) == digest(
        configured('[queues]\nC = "ping"\na_b = "lock"')
    )
    others = [
        configured(text)
        for text in (
            'time_zone = "UTC"',
            "redelivery_window_s = 1",
            '[sim_aliases]\niccid = ["x"]',
            '[bill_aliases]\nid = ["x"]',
            '[statuses]\nx = "active"',
            '[queues]\nx = "lock"',
            "[working_days]\n2026-01-01 = true",
        )
    ]
    assert len({plain, *map(digest, others)}) == len(others) + 1


def test_operations_are_found_by_any_spelling_of_their_queue():
    """Case, `_`, `-` and spaces don't count; an unknown queue has no operation."""
    configuration = Configuration()
    for code, name in QUEUES.items():
        for queue in (
            code,
            code.upper(),
            code.replace("_", "-"),
            code.replace("_", " "),
            code.title().replace("_", ""),
        ):
            assert operation(configuration, queue) == name
    assert operation(configuration, "sim_explode") is None
    assert operation(configuration, "") is None
    assert operation(configuration, None) is None
    assert set(QUEUES.values()) == {"lock", "unlock", "reboot", "balance", "ping", "groups"}


def test_two_configurations_share_nothing():
    """The defaults of one are not those of another."""
    assert Configuration().queues is not Configuration().queues
    assert Configuration() == Configuration()
