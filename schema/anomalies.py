"""The anomalies: everything a reading may remark on, each with its sentence.

The names are part of what auditors see and filter on: stable, never reused.
"""

from __future__ import annotations

from typing import Final

ANOMALIES: Final[dict[str, str]] = {
    "amount_fraction": "An amount has fractions of a kopeck; it was rounded to the nearest one, halves away from zero.",
    "amount_not_understood": "An amount of money could not be understood; none was recorded.",
    "attributes_cut": "Fields without a column were too long to publish; the log has them whole.",
    "bill_unidentified": "A bill came with neither a number nor an id.",
    "byte_order_mark": "The body began with a byte order mark, which JSON forbids (RFC 8259 §8.1); it was skipped.",
    "count_as_text": "A count or percentage came as text; it was read as the number it shows.",
    "count_not_integer": "A count or percentage was no whole number that can be stored; none was recorded.",
    "currency_not_rubles": "An amount is not in rubles; it was not recorded as kopecks.",
    "field_not_text": "Something other than text stood in a field of text; nothing was recorded for it.",
    "file_base64": "A file's content could not be decoded from base64.",
    "file_not_object": "An element of the files was not an object.",
    "file_type": "A file's type is not base64; its content was read as base64 all the same.",
    "files_not_array": "The files were not an array.",
    "files_not_read": "A job callback came with files, which the platform does not announce; the log has them.",
    "flag_not_boolean": "A yes-or-no field came as a number or text; it was read as what it says.",
    "flag_not_understood": "A yes-or-no field could not be understood.",
    "iccid_checksum": "An ICCID's last digit is not the check digit of the others (Luhn, ITU-T E.118).",
    "iccid_invalid": "An ICCID is not 17 to 22 digits; the SIM card was not identified by it.",
    "iccid_lossy_number": "An ICCID came as a JSON number with a fraction or exponent, which loses digits; it was not used.",
    "iccid_prefix": "An ICCID does not begin with 89 (ITU-T E.118).",
    "id_invalid": "An id was neither text nor a whole number, or too long; nothing was identified by it.",
    "imei_invalid": "An IMEI is not 14 to 16 digits; none was recorded.",
    "imsi_invalid": "An IMSI is not 14 or 15 digits; the SIM card was not identified by it.",
    "item_not_object": "An element of the items was not an object.",
    "items_missing": "There were no items.",
    "items_not_array": "The items were not an array.",
    "job_and_notification": "The body is both a job callback and a notification; it was read as a job callback.",
    "msisdn_invalid": "An MSISDN is not 7 to 15 digits; the SIM card was not identified by it.",
    "nul_in_text": "A text held the character NUL; it is shown as ␀.",
    "number_as_text": "A number's exponent is beyond what is computed with; it was kept as text.",
    "number_for_text": "A number stood where digits are sent as text; it was read as its digits.",
    "number_is_bank_account": "A bill's number has the 20 or 22 digits of a bank account; it was not used.",
    "paid_contradicted": "A bill is said to be unpaid, with a time of payment; it was recorded as unpaid.",
    "paid_not_understood": "What a bill says of its payment could not be understood.",
    "percentage_fraction": "A percentage was not whole; it was rounded down.",
    "progress_not_understood": "A job's status was absent or no object; no progress was recorded.",
    "qid_invalid": "A body like a job callback has no usable id of its job.",
    "sim_unidentified": "A SIM card came with no ICCID, IMSI, MSISDN or id that can be used.",
    "status_contradicted": "A SIM card is said to be active and, by another field, blocked or terminated; the first alias counts.",
    "status_not_understood": "A SIM card's status is no word that is known; it was recorded as unknown.",
    "text_cut": "A text was too long to publish; the log has it whole.",
    "time_not_understood": "A date or time could not be understood, or lies outside the years 1970 to 9999.",
    "user_unidentified": "The user who ordered a job came without an id; none was recorded.",
}
