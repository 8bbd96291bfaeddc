import json

import pytest
from pydantic import SecretStr

from tpo_graph.redaction import has_hidden, redacted

SECRET = "CANARY0123456789"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"vllm:http://user:{SECRET}@host:8000/#rm", "vllm:http://***@host:8000/#rm"),
        (f"http://host/v1?api_key={SECRET}&x=1", "http://host/v1?api_key=***&x=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"key sk-{SECRET}!", "key ***!"),
        ("openai:gpt-5-mini", "openai:gpt-5-mini"),
        ("local:./key-value/model@main", "local:./key-value/model@main"),
        ({"api_key": SECRET, "timeout": 5}, {"api_key": "***", "timeout": 5}),
        ({"api_key_env": "MY_KEY"}, {"api_key_env": "MY_KEY"}),
        ({"api_key": SecretStr(SECRET)}, {"api_key": "***"}),
        (
            {"default_headers": {"X-Tenant": SECRET, "Accept": "a/b"}},
            {"default_headers": {"X-Tenant": "***", "Accept": "a/b"}},
        ),
        (
            {"extra_body": {"top_k": 5, "options": [{"hf_token": SECRET}]}},
            {"extra_body": {"top_k": 5, "options": [{"hf_token": "***"}]}},
        ),
    ],
)
def test_what_is_shown_holds_no_secret(given: object, shown: object) -> None:
    assert redacted(given) == shown
    assert SECRET not in json.dumps(redacted(given))
    assert has_hidden(redacted(given)) == ("***" in json.dumps(shown))
    assert redacted(redacted(given)) == redacted(given)
