from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schema.aliases import BILL_ALIASES, CONTAINERS, SIM_ALIASES, folded
from schema.redaction import is_secret


def test_names_are_compared_without_case_and_separators():
    """Case, `_`, `-` and spaces make no difference."""
    assert folded("STRASSE") == folded("Straße")
    assert {folded(name) for name in ("simCard", "SIM_CARD", "sim-card", " Sim Card ")} == {"simcard"}


@given(st.text())
def test_folding_is_settled(name: str):
    """A folded name folds to itself."""
    assert folded(folded(name)) == folded(name)


def test_the_tables_are_as_folding_sees_them():
    """No alias is empty or a secret, and containers are folded."""
    for table in (SIM_ALIASES, BILL_ALIASES):
        for aliases in table.values():
            assert all(folded(alias) and not is_secret(folded(alias)) for alias in aliases)
    assert {folded(name) for name in CONTAINERS} == CONTAINERS
