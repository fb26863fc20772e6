"""
What no line of a log may hold, and how it is taken out: here, and nowhere else.

Lines are cleaned as they are written, whole: a secret gets into a message, a traceback or a field that nobody
thought of. The rules go by the form of a secret or by the name in front of it:

- API keys of ours, of which the id stays;
- credentials in URLs (PostgreSQL, MLflow, S3, proxies) and in PostgreSQL's `password=…`;
- what `Authorization` and `Cookie` headers hold, bearer tokens, and JSON web tokens such as TMDB's;
- values of fields, parameters and variables that are named like a secret;
- addresses of people (e-mail).
"""

import re
from typing import Final

__all__ = ["may_hold_secret", "redacted"]

_WORDS: Final = (
    b"password", b"passwd", b"passphrase", b"secret", b"token", b"signature", b"credential", b"authorization",
    b"cookie", b"apikey", b"api_key", b"api-key", b"accesskey", b"access_key", b"access-key", b"privatekey",
    b"private_key", b"private-key", b"email", b"e-mail", b"e_mail",
)  # fmt: skip
# What stands before such a word in a name stays anyway: looking for it would take the square of the time.
_NAMED: Final = b"(?:" + b"|".join(_WORDS) + rb")[\w-]{0,40}"
_RULES: Final = (
    ((b"mq_",), rb"mq_([A-Za-z0-9]{1,64})_[A-Za-z0-9_-]+", rb"mq_\1_***"),
    ((b"@",), rb"(://[^/\s:@\"']*:)[^\s/\"']*@", rb"\1***@"),
    ((b"eyj",), rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", rb"***"),
    ((b"bearer", b"basic"), rb"((?:bearer|basic)(?:\s+|%20|\+))[A-Za-z0-9._~+/=-]{8,}", rb"\1***"),
    # A field of the line itself: all of its text.
    (_WORDS, rb"(" + _NAMED + rb'":")(?:[^"\\]|\\.)+', rb"\1***"),
    # Headers end with their line, or with the quote around them.
    (
        (b"authorization", b"cookie"),
        rb"((?:authorization|cookie)(?:\s*[:=]\s*|\\?[\"']\s*[:,]\s*b?\\?[\"']))[^\"'\\]+",
        rb"\1***",
    ),
    # In texts: `name=value`, `name: value`, `'name': 'value'`, and the same within JSON.
    (
        _WORDS,
        rb"(" + _NAMED + rb"(?:(?:\s?=\s?|:\s|%3D)(?:\\?[\"'])?|\\?[\"']\s*[:,]\s*b?\\?[\"']))"
        rb"[^\s\"'&;,\\)}\]*]+",
        rb"\1***",
    ),
    (
        (b"@", b"%40"),
        rb"[A-Za-z0-9._%+-]{1,64}(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
        rb"***@***",
    ),
)
"""Signs in the lower-cased line without which a rule has nothing to do; what to look for; what to write."""
_COMPILED: Final = [
    (signs, re.compile(pattern, re.IGNORECASE), instead) for signs, pattern, instead in _RULES
]


def redacted(line: bytes) -> bytes:
    """The line without secrets; JSON stays JSON."""
    lowered = line.lower()
    for signs, pattern, instead in _COMPILED:
        if any(sign in lowered for sign in signs):
            line = pattern.sub(instead, line)
    return line


def may_hold_secret(line: bytes) -> bool:
    """
    Whether the line of a request has to be looked at more closely: a glance that costs next to nothing.

    Such a line has few texts that come from outside, and none of them a message: without one of these signs,
    no secret has a form or a name there.
    """
    return b"mq_" in line or b"@" in line or b"=" in line or b"eyJ" in line or b"%" in line
