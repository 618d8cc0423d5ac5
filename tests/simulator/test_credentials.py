from __future__ import annotations

import pytest

from simulator.accounts.credentials import Denial, DeniedError, JwtIssuer, ListenKeys, TokenIssuer, seal


def denial(check, *arguments):
    with pytest.raises(DeniedError) as denied:
        check(*arguments)
    return denied.value.denial


@pytest.fixture
def tokens():
    return TokenIssuer(1, 1234, 2)


def test_a_token_names_expiry_account_and_key_and_is_valid_until_then(tokens):
    token = tokens.issue(1000)
    assert token.split(":")[:3] == ["1000", "1234", "2"]
    tokens.check(token, 999.9)
    assert denial(tokens.check, token, 1000) is Denial.EXPIRED


def test_a_read_only_token_has_its_own_format(tokens):
    token = tokens.issue(1000, is_read_only=True)
    assert token.split(":")[:4] == ["ro", "1234", "single", "1000"]
    tokens.check(token, 999)
    assert denial(tokens.check, token, 1001) is Denial.EXPIRED


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_token_is_missing(tokens, token):
    assert denial(tokens.check, token, 0) is Denial.MISSING


def test_a_modified_token_is_invalid(tokens):
    expiry, account, key, sealed = tokens.issue(1000).split(":")
    for wrong in (
        f"2000:{account}:{key}:{sealed}",
        f"{expiry}:999:{key}:{sealed}",
        f"{expiry}:{account}:3:{sealed}",
        f"{expiry}:{account}:{key}:{sealed[:-1]}0f",
        f"{expiry}:{account}:{key}:",
        f"soon:{account}:{key}:{sealed}",
        f"ro:{account}:single:x:{sealed}",
        "nonsense",
        "é:1234:2:é",
    ):
        assert denial(tokens.check, wrong, 0) is Denial.INVALID


def test_a_signature_of_the_venues_own_signer_is_accepted_by_its_length(tokens):
    tokens.check("1000:1234:2:" + 80 * "a7", 0)
    assert denial(tokens.check, "1000:1234:2:" + 80 * "zz", 0) is Denial.INVALID
    assert denial(tokens.check, "1000:1234:2:" + 80 * "a7", 2000) is Denial.EXPIRED


def test_revoking_affects_known_tokens_and_no_later_ones(tokens):
    issued, seen = tokens.issue(1000), TokenIssuer(1, 1234, 2).issue(1001)
    tokens.check(seen, 0)
    tokens.revoke_all()
    assert denial(tokens.check, issued, 0) is Denial.EXPIRED
    assert denial(tokens.check, seen, 0) is Denial.EXPIRED
    tokens.check(tokens.issue(1000), 0)


def test_a_restarted_issuer_accepts_its_tokens(tokens):
    TokenIssuer(1, 1234, 2).check(tokens.issue(1000), 0)
    assert denial(TokenIssuer(2, 1234, 2).check, tokens.issue(1000), 0) is Denial.INVALID


@pytest.fixture
def jwts():
    return JwtIssuer(1)


def test_a_jwt_is_valid_for_its_account_and_time(jwts):
    token = jwts.issue("0x1", 100.5, 10)
    assert token.count(".") == 2
    assert jwts.check(token, 110) == "0x1"
    assert JwtIssuer(1).check(token, 110) == "0x1"
    assert denial(jwts.check, token, 110.5) is Denial.EXPIRED
    assert token != jwts.issue("0x1", 100.5, 10)


def test_bad_jwts(jwts):
    head, body, sealed = jwts.issue("0x1", 100, 10).split(".")
    other = JwtIssuer(1).issue("0x2", 100, 99).split(".")[1]
    assert denial(jwts.check, None, 0) is Denial.MISSING
    assert denial(jwts.check, "x", 0) is Denial.MALFORMED
    assert denial(jwts.check, f"{head}.{body}.{sealed[:-2]}xx", 0) is Denial.INVALID
    assert denial(jwts.check, f"{head}.{other}.{sealed}", 0) is Denial.INVALID
    assert denial(JwtIssuer(2).check, f"{head}.{body}.{sealed}", 0) is Denial.INVALID
    assert denial(jwts.check, "a.b.é", 0) is Denial.INVALID


def test_jwts_can_be_revoked(jwts):
    token = jwts.issue("0x1", 100, 10)
    jwts.revoke_all()
    assert denial(jwts.check, token, 101) is Denial.EXPIRED
    assert jwts.check(jwts.issue("0x1", 100, 10), 101) == "0x1"


def test_there_is_one_listen_key_while_it_is_kept_alive():
    keys = ListenKeys(1, 60)
    assert keys.current(0) is None
    assert not keys.extend(0)
    key = keys.open(0)
    assert keys.open(50) == key
    assert keys.current(109) == key
    assert keys.extend(109)
    assert keys.current(168) == key
    assert keys.current(169) is None
    assert keys.open(170) != key


def test_a_listen_key_can_be_dropped():
    keys = ListenKeys(1, 60)
    key = keys.open(0)
    assert keys.drop() == key
    assert keys.current(1) is None
    assert keys.drop() is None
    assert keys.open(1) != key


def test_a_seal_is_hmac_sha256():
    assert seal("key", "The quick brown fox jumps over the lazy dog") == (
        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    )
