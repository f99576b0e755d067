"""What looks like a secret, and what does not though it has such a word in it."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.system import hidden, is_secret_name

SECRETS = [
    "password", "db_password", "dbPassword", "PASSWORD", "sslpassword", "passwd", "pwd", "passphrase", "secret",
    "client_secret", "aws_secret_access_key", "api_key", "apiKey", "apikey", "API_KEY", "openai_api_key", "access_key",
    "private_key", "ssh_key", "api_keys", "token", "hf_token", "hfToken", "access_token", "auth_token", "github_token",
    "my_own_token", "api_tokens", "auth", "authorization", "Authorization", "credentials", "cookie", "dsn",
]  # fmt: skip
OTHERS = [
    "num_tokens", "token_embedding_size", "max_tokens", "tokenizer", "key_dim", "key", "keys", "tokens", "sort_key",
    "label_key", "num_key_value_heads", "pad_token", "eos_token", "cls_token", "mask_token", "class_token",
    "token_type",
    "tokenizer_name", "monkey", "author", "secretary", "passes", "use_key_bias", "key_padding", "query_key_norm",
    "bypass", "authentic", "compass", "signature_size",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets(name: str) -> None:
    """With a text as the value; a switch of such a name is none."""
    assert is_secret_name(name, "s3cret")
    assert not is_secret_name(name, True)
    assert not is_secret_name(name, None)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("value", ["s3cret", 64, 0.5, [1, 2]])
def test_names_that_matter_to_tuning(name: str, value: Any) -> None:
    """They are recorded as they are."""
    assert not is_secret_name(name, value)


@pytest.mark.parametrize(("name", "value"), [("token", "<pad>"), ("token", "[CLS]"), ("token", 3), ("api_key", 0.5)])
def test_values_that_are_no_secrets(name: str, value: Any) -> None:
    """A piece of a text between brackets, and a number."""
    assert not is_secret_name(name, value)


URLS = [
    "postgresql://me:s3cret@h/d", "postgresql:/me:s3cret@h/d", "postgresql:///me:s3cret@h/d",
    "postgresql://me:s3c ret@h/d", "postgresql://me:s3c\tret@h/d", "postgresql://me:s3c@ret@h/d",
    "postgresql://me:s3c/ret@h/d", "postgresql://me:s3c:ret@h/d", "postgresql://me:s3c%40ret@h/d",
    "postgresql://h/d?user=me&password=s3cret", "postgresql://h/d?PASSWORD=s3cret", "mysql://h/d?passwd=s3cret",
    "postgresql://h/d?password = s3cret", "postgresql://me:s3c@ret@h/d?sslpassword=s3cret", "mysql+pymysql://:s3cret@h/d",
    "postgresql://h/d?options=-c%20x&token=s3cret", "https://x/y?X=1&sig=s3cret", "host=h password='s3c ret' dbname=d",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_passwords_of_urls(url: str) -> None:
    """They stand in no message, as a whole or in the parts that a driver takes for something else."""
    said = hidden(f"The storage {url} of study 'x' cannot be used", url=url)
    assert said.startswith("The storage ")
    for text in (said, hidden(url)):
        assert "s3c" not in text
        assert "ret" not in text


@pytest.mark.parametrize(
    "text",
    [
        "{'api_key': 's3cret', 'n': 1}", "N(api_keys=['s3c', \"ret\"], n=1)", "N(password=b's3cret', n=1)",
        "N(a=M(passwd='s3cret'), n=1)", "N(password='s3c\\'ret', n=1)", "N(password=\"s3c'ret\", n=1)",
        "N(n=1, secrets={'a': 's3cret'}", "n=1 password='s3cret", "[('n=1', {\"hf_token\" : 's3cret'})]",
        "n: 1\n  - api_key: 's3c ret'", "n\nAuthorization: Basic s3c ret", "n --password s3cret", "n Bearer s3c.ret+/=",
        "n hf_As3cret0123456789012", "n -----BEGIN RSA PRIVATE KEY-----\ns3c\nret", "n eyJs3cret.eyJzdWIi.s3cret",
    ],
)  # fmt: skip
def test_secrets_in_texts_of_objects(text: str) -> None:
    """However deep they stand there, and however they are quoted; the rest is there still."""
    said = hidden(text)
    assert "***" in said
    assert "n" in said
    assert "s3c" not in said
    assert "ret" not in said.replace("secrets", "")


@pytest.mark.parametrize("text", ["sk_hist_gradient_boosting", "npm-conv-encoder-large-v2", "hf_facebook-opt-125m"])
def test_names_that_begin_as_keys_do(text: str) -> None:
    """Of models, files and features."""
    assert hidden(text) == text


def test_parts_of_passwords() -> None:
    """Where a driver reads the URL otherwise, a part stands in what it says."""
    said = "could not translate host name \"ret\" to address, port '7' is none"
    hides = hidden(said, url="postgresql://me:s3c@ret:7@h/d")
    assert hides == "could not translate host name \"***\" to address, port '***' is none"


@pytest.mark.parametrize(
    "text", ["sqlite:///study.db", "http://h:8080/x", "lr=0.1 n_tokens=5", "see https://x.org/a?b=c"]
)
def test_texts_without_passwords(text: str) -> None:
    """They are as they were."""
    assert hidden(text) == text


def test_long_texts() -> None:
    """It takes no longer than the text is long."""
    began = time.process_time()
    for piece in ("x", "://:", "a=", "a='", ":", "= ", "-", "@", "token=", "token=[", "token='", "'token':",
                  "token=5 ", "token='\\", "sk-", "hf_a", "--a ", "eyJaaaaa."):  # fmt: skip
        hidden(piece * 100_000)
    assert time.process_time() - began < 60  # hours, where it looked from each place to the end


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("how", ["study", "open", "command", "storage", "name"])
def test_no_message_of_a_storage_has_a_password(
    url: str, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is given: what is raised, with its causes, what is logged and what is printed."""
    monkeypatch.setitem(sys.modules, "pymysql", None)  # no driver, so no server is looked for
    url = url.replace("@h/", "@127.0.0.1:1/").replace("//h/", "//127.0.0.1:1/")
    space = {"lr": th.Float(0, 1)}
    ways: dict[str, Callable[[], object]] = {
        "study": lambda: th.Study("x", space, metric="a", mode="max", storage=url).ask(),
        "name": lambda: th.Study(url, space, metric="a", mode="max").ask(),
        "open": lambda: th.Study.open("x", storage=url),
    }
    with caplog.at_level(logging.DEBUG):
        if how in ways:
            with pytest.raises((th.StudyError, ValueError)) as raised:
                ways[how]()
            said = "".join(traceback.format_exception(raised.value))
        else:
            said = CliRunner().invoke(app, ["status", *(["x", "--storage", url] if how == "storage" else [url])]).output
    assert said
    assert "s3c" not in said + caplog.text
