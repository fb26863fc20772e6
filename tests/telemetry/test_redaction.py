import json

import pytest

from marquee.telemetry.redaction import may_hold_secret, redacted

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtYXJxdWVlIn0.c2lnbmF0dXJl"
HELD = {
    "an API key": ("path", "/v1/mq_0123456789_planted/x", "mq_0123456789_***"),
    "a database URL": ("error", "at postgresql://user:planted@host:5432/db?x=1", "postgresql://user:***@host"),
    "a password with an at sign": ("error", "postgresql://user:pl@nted@host/db", "postgresql://user:***@host"),
    "a tracker with credentials": ("uri", "https://me:planted@mlflow.example.org/", "https://me:***@mlflow"),
    "a connection string": ("error", "host=h password=planted user=u", "password=*** user=u"),
    "a password in quotes": ("error", "password='planted'", "password='***'"),
    "a bearer token": ("header", "Authorization: Bearer planted-token", "Authorization: ***"),
    "a bearer token alone": ("said", "Bearer planted-token was sent", "Bearer *** was sent"),
    "headers as bytes": ("headers", "[(b'cookie', b'a=planted; b=planted2'), (b'x', b'y')]", "(b'x', b'y')"),
    "a web token": ("said", f"with {JWT}.", "with ***"),
    "a parameter of TMDB": ("url", "https://example.org/3?api_key=planted&page=2", "api_key=***&page=2"),
    "a signed address": ("url", "https://s3/b?X-Amz-Credential=planted&X-Amz-Signature=planted&x=1", "&x=1"),
    "a key in an environment": ("error", "AWS_SECRET_ACCESS_KEY=planted x", "AWS_SECRET_ACCESS_KEY=*** x"),
    "a line of a credentials file": ("error", "aws_secret_access_key = planted", "_access_key = ***"),
    "a field named so": ("smtp_password", "planted with spaces \" and quotes", "***"),
    "JSON within": ("body", '{"token": "planted", "k": 3}', '"k": 3}'),
    "a repr within": ("body", "{'session_token': 'planted', 'k': 3}", "'k': 3}"),
    "an address of a person": ("said", "to planted.person+x@mail.example.org, twice", "to ***@***, twice"),
    "an address as in URLs": ("path", "/x?mail=planted%40example.org", "***"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "left"), HELD.values(), ids=HELD)
def test_secret_is_taken_out_and_the_rest_stays(name, value, left):
    line = json.dumps({"event": "e", name: value, "n": 1}, separators=(",", ":")).encode()
    clean = json.loads(redacted(line))
    assert "planted" not in str(clean)
    assert "nted@" not in str(clean)
    assert left in clean[name]
    assert (clean["event"], clean["n"]) == ("e", 1)


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"api.request","path":"/v1/users/5/recommendations","status":200,"key_id":"0123456789"}',
        '{"tokens":5,"cookies":null,"secret":false,"emails":[1]}',
        '{"fix":"Set MARQUEE_DATABASE__URL, or unset it.","address":"host:5432/db"}',
        '{"error":"The API key is not valid: mistyped, or revoked."}',
        '{"event_key":"a:1","object_key":"snapshots/ab.json","digest":"00ff"}',
    ],
)
def test_line_without_secrets_stays_as_it_is(line):
    assert redacted(line.encode()) == line.encode()


def test_glance_sees_every_sign_that_a_path_may_bear():
    plain = b'{"path":"/v1/users/5/recommendations","status":200,"duration_ms":1.25,"role":"service"}'
    assert not may_hold_secret(plain)
    for planted in (b"mq_0_x", b"a@b.c", b"token=x", b"eyJhbGciOiJIUzI1NiJ9.x.y", b"a%40b.c"):
        assert may_hold_secret(plain.replace(b"/5/", planted))


@pytest.mark.parametrize(
    "part", ["a", "token", "eyJ", "://:", "a@", "%40a.", 'password":"', "bearer ", "mq_a"]
)
def test_long_line_is_cleaned_in_time(part):
    """Whatever a line repeats: rules that look back take its square."""
    redacted(part.encode() * (100_000 // len(part)))
