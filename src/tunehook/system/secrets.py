"""What looks like a secret: passwords in URLs, and names of arguments such as ``api_key``."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

_ANYWHERE = re.compile(
    r"\w*(?:password|passwd|passphrase|pwd)|credentials?|secrets?|authorization|cookies?|(?:api|access|private)keys?"
)
# What stands before "key" or "token" in the names of secrets, and only then says that they are some ...
_OF_KEYS = {
    "access", "account", "api", "app", "auth", "aws", "azure", "client", "deploy", "encryption", "gcp", "hf", "master",
    "openai", "private", "service", "session", "signing", "ssh", "storage", "subscription", "wandb", "webhook",
}  # fmt: skip
_OF_TOKENS = {"access", "api", "auth", "bearer", "hf", "hub", "refresh", "session"}
# ... and what stands before "token" where it is a piece of a text or a place in a model.
_PIECES = {
    "begin", "blank", "bos", "boundary", "class", "cls", "dist", "distillation", "document", "empty", "end", "eod",
    "eos", "eot", "fim", "first", "image", "last", "mask", "next", "null", "oov", "pad", "padding", "patch", "per",
    "prefix", "prompt", "query", "register", "sep", "separator", "sos", "special", "start", "stop", "suffix", "unk",
    "unknown", "word",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# A URL's user and password, with one slash or more, up to the last @, since a password may hold some.
_USER = re.compile(r"(:/{1,3}[^/@:\s]{0,200}):([^'\"\n]{0,2000})@")
# A name and what assigns to it, as in ?name=..., name = ... and 'name': ..., and a value: a text, several, or a word.
_ASSIGNED = re.compile(r"(?<![\w-])([\w-]++)((?:['\"]\s*+:|\s*+=)\s*+)")
_VALUE = re.compile(
    r"[bBrRuU]{0,2}(?:'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"|'[^']*+'?|\"[^\"]*+\"?)"
    r"|\[[^\]]*+\]?|\{[^}]*+\}?|\([^)]*+\)?|[^&\s'\"),;]+",
    re.DOTALL,
)
# A name at the beginning of a line and all behind it, as in YAML and in the headers of a request.
_LINE = re.compile(r"(?m)^((?:- |[ \t]){0,40}['\"]?([\w-]{1,80})['\"]?: +)(\S.*)$")
_OPTION = re.compile(r"(?<!\S)(--?([A-Za-z][\w-]{0,80})\s+)([^\s-]\S*)")  # as in "--password ..."
# What begins as the keys of known services do and is no word or name, since digits and capitals are in it; what stands
# behind Bearer; and keys in PEM and signed JSON.
_KEYS = re.compile(
    r"\b(?:(?:hf|gh[opsur]|github_pat|glpat|xox[abprs]|sk|pk|rk|r8|npm|pypi|dckr_pat)[-_]"
    r"(?=[\w-]{0,60}?[0-9])(?=[\w-]{0,60}?[A-Z])[\w-]{16,}|AKIA[A-Z0-9]{16}"
    r"|eyJ[\w-]{5,}\.eyJ[\w-]+\.[\w-]*)|(?<=\bBearer )[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\w\s+/=:,-]*"
)
_NO_TEXT = re.compile(r"None|null|true|false|[-+.\d][-+.\de_]*", re.IGNORECASE)


def is_secret_name(name: str, value: object) -> bool:
    """Whether the name of an argument says that its value is a secret, such as ``hf_token`` but not ``pad_token``.

    Args:
        name: The name of an argument, an attribute or an entry.
        value: Its value: a switch is none, and what is called a token or a key is a text or several.
    """
    if value is None or isinstance(value, bool):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(map(_ANYWHERE.fullmatch, words)):
        return True
    if not words or not isinstance(value, str | bytes | list | tuple | dict | set):
        return False
    before, last = words[-2] if len(words) > 1 else "", words[-1]
    if last in ("key", "keys"):
        return before in _OF_KEYS
    if last == "tokens":
        return before in _OF_TOKENS
    is_piece = before in _PIECES or (isinstance(value, str) and re.fullmatch(r"[<\[].*[>\]]|\W*", value) is not None)
    return last in ("dsn", "auth") or (last == "token" and not is_piece)


def hidden(text: str, *, url: object = None, mask: str = "***", names: Collection[str] = ()) -> str:
    """A text without the passwords of the URLs in it, what is assigned to names of secrets, and known forms of keys.

    Args:
        text: What people are to read.
        url: A URL whose password is hidden wherever it stands, also by itself or in part.
        mask: What stands in place of a password.
        names: Further names of secrets.
    """
    for secret in sorted(_secrets(url) if isinstance(url, str) else (), key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, mask)
        else:  # it would be found inside of words, which says what it is
            text = re.sub(rf"(['\"]){re.escape(secret)}\1", rf"\1{mask}\1", text)
    text = _assigned(_KEYS.sub(mask, _USER.sub(rf"\1:{mask}@", text)), mask, names)[0]
    for form in (_LINE, _OPTION):
        text = form.sub(lambda found: f"{found[1]}{mask}" if is_secret_name(found[2], found[3]) else found[0], text)
    return text


def _assigned(text: str, mask: str, names: Collection[str] = ()) -> tuple[str, list[str]]:
    """A text with a mask in place of the secrets that are assigned in it, and these."""
    parts, secrets, done = list[str](), list[str](), 0
    for found in _ASSIGNED.finditer(text):
        is_ours = found[1] in names
        likely = is_ours or is_secret_name(found[1], "x") or found[1].lower() in ("sig", "signature")
        if found.start() < done or not likely:
            continue
        value = _VALUE.match(text, found.end())
        if value is None or not (is_ours or _is_secret(found[1], value[0])):
            continue
        parts += [text[done : found.end()], mask]
        secrets.append(value[0])
        done = value.end()
    return "".join([*parts, text[done:]]), secrets


def _is_secret(name: str, value: str) -> bool:
    is_text = value[0] in "'\"" or not _NO_TEXT.fullmatch(value)
    return is_text and (is_secret_name(name, value) or name.lower() in ("sig", "signature"))


def _secrets(url: str) -> set[str]:
    raw = [password for _, password in _USER.findall(url)]
    raw += [secret.strip("'\"") for secret in _assigned(url, "")[1]]
    # A driver that reads the URL otherwise takes a part of the password for the host or the port.
    parts = [part for one in raw for part in (one, *re.split(r"[@/:?#\s]", one))]
    return {secret for part in parts for secret in (part, unquote(part)) if secret}
