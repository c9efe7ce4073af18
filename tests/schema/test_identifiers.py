from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.identifiers import check_digit, iccid, iccid_forms, imei, imsi, msisdn, number_text

digits = st.text("0123456789", min_size=17, max_size=22)


def test_check_digit_is_the_one_of_the_standard():
    """ISO/IEC 7812-1 gives 3 as the check digit of 7992739871."""
    assert check_digit("7992739871") == "3"


@given(st.text("0123456789", min_size=1, max_size=30), st.data())
def test_check_digit_notices_any_single_wrong_digit(number: str, data: st.DataObject):
    """Changing one digit changes the check digit."""
    place = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from(sorted(set("0123456789") - {number[place]})))
    assert check_digit(number[:place] + other + number[place + 1 :]) != check_digit(number)


@pytest.mark.parametrize(
    ("value", "expected", "flaws"),
    [
        ("8970100000000000013", "8970100000000000013", ()),
        (" 89701 0000-0000 0000-13 ", "8970100000000000013", ()),
        ("8970100000000000013F", "8970100000000000013", ()),
        ("8970100000000000013f", "8970100000000000013", ()),
        (8970100000000000013, "8970100000000000013", ("number_for_text",)),
        ("8970100000000000014", "8970100000000000014", ("iccid_checksum",)),
        ("7970100000000000014", "7970100000000000014", ("iccid_prefix",)),
        ("89701000000000001", "89701000000000001", ("iccid_checksum",)),
        ("8970100000000000000015", "8970100000000000000015", ()),
        ("8970100000000001", None, ("iccid_invalid",)),
        ("89701000000000000000013", None, ("iccid_invalid",)),
        ("897010000000000001X", None, ("iccid_invalid",)),
        ("٨٩٧٠١٠٠٠٠٠٠٠٠٠٠٠٠١٣", None, ("iccid_invalid",)),
        ("8970100000000000013FF", None, ("iccid_invalid",)),
        (True, None, ("iccid_invalid",)),
        (["8970100000000000013"], None, ("iccid_invalid",)),
        (Decimal("8970100000000000013.0"), None, ("iccid_lossy_number",)),
        (Decimal("8.970100000000000013E+18"), None, ("iccid_lossy_number",)),
        ("", None, ()),
        ("  ", None, ()),
        (None, None, ()),
    ],
)
def test_iccid(value, expected, flaws):
    """An ICCID is 17 to 22 ASCII digits; prefix and check digit only warn; a decimal is never one."""
    assert iccid(value) == (expected, flaws)


@given(digits)
def test_two_forms_of_an_iccid_know_each_other(number: str):
    """A card's form with the check digit and the one without are each among the other's forms."""
    forms = iccid_forms(number)
    assert forms[0] == number
    assert len(set(forms)) == len(forms)
    for form in forms:
        assert number in iccid_forms(form)
        assert abs(len(form) - len(number)) <= 1


def test_iccid_forms_add_and_drop_the_check_digit():
    """The shorter form gains its check digit, the longer one loses it; a wrong last digit is not dropped."""
    assert iccid_forms("897010000000000001") == ("897010000000000001", "8970100000000000013")
    assert iccid_forms("8970100000000000013")[1] == "897010000000000001"
    assert "897010000000000001" not in iccid_forms("8970100000000000014")
    assert all(17 <= len(form) <= 22 for form in iccid_forms("8" * 22) + iccid_forms("8" * 17))


@pytest.mark.parametrize(
    ("value", "expected", "flaws"),
    [
        ("9000000001", "+79000000001", ()),
        ("89000000001", "+79000000001", ()),
        ("79000000001", "+79000000001", ()),
        ("+79000000001", "+79000000001", ()),
        ("+7 (900) 000-00-01", "+79000000001", ()),
        ("8 900 000 00 01", "+79000000001", ()),
        ("0079000000001", "+79000000001", ()),
        (79000000001, "+79000000001", ("number_for_text",)),
        (9000000001, "+79000000001", ("number_for_text",)),
        (Decimal("79000000001.0"), "+79000000001", ("number_for_text",)),
        ("+4915112345678", "+4915112345678", ()),
        ("375291234567", "+375291234567", ()),
        ("+8613912345678", "+8613912345678", ()),
        ("+1234567890", "+1234567890", ()),
        ("123456789012345", "+123456789012345", ()),
        ("1234567890123456", None, ("msisdn_invalid",)),
        ("12345", None, ("msisdn_invalid",)),
        ("ivan", None, ("msisdn_invalid",)),
        (Decimal("7.9E+10"), None, ("msisdn_invalid",)),
        (-79000000001, None, ("msisdn_invalid",)),
        (False, None, ("msisdn_invalid",)),
        ("", None, ()),
    ],
)
def test_msisdn(value, expected, flaws):
    """Russian numbers become +7…, others keep their country code; more than 15 digits are none."""
    assert msisdn(value) == (expected, flaws)


@given(st.text("0123456789", min_size=10, max_size=15))
def test_msisdn_is_read_from_its_own_form(number: str):
    """A normalised MSISDN is its own normal form."""
    normal, _ = msisdn(number)
    assert normal is not None
    assert msisdn(normal) == (normal, ())


@pytest.mark.parametrize(
    ("value", "expected", "flaws"),
    [
        ("250010000000001", "250010000000001", ()),
        ("25001 0000000001", "250010000000001", ()),
        (250010000000001, "250010000000001", ("number_for_text",)),
        ("25001", None, ("imsi_invalid",)),
        ("2500100000000011", None, ("imsi_invalid",)),
        ({}, None, ("imsi_invalid",)),
        ("", None, ()),
    ],
)
def test_imsi(value, expected, flaws):
    """An IMSI is 14 or 15 digits."""
    assert imsi(value) == (expected, flaws)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("490154203237518", "490154203237518"),
        ("49-015420-323751", "49015420323751"),
        ("49/015420/323751/8", "490154203237518"),
        ("4901542032375", None),
        ("49015420323751812", None),
    ],
)
def test_imei(value, expected):
    """An IMEI is 14 to 16 digits, however its parts are set apart."""
    assert imei(value)[0] == expected


def test_number_text_never_invents_digits():
    """Only a whole number that was written out, with no more digits than a float keeps, has a text."""
    assert number_text(Decimal("1001.0")) == "1001"
    assert number_text(Decimal("0.00")) == "0"
    for lossy in ("1E+3", "1001.5", "1234567890123456.0", "-1.0", "1E-7"):
        assert number_text(Decimal(lossy)) is None


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.decimals(allow_nan=False, allow_infinity=False)),
    st.sampled_from([iccid, msisdn, imsi, imei]),
)
def test_identifiers_are_ascii_digits_or_nothing(value, read):
    """Whatever comes, an identifier is ASCII digits, an MSISDN with its plus, or None."""
    found, _ = read(value)
    assert found is None or (found.removeprefix("+").isdigit() and found.isascii())
