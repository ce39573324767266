"""What looks like a credential is masked, and nothing else."""

import io
import sys
from contextlib import redirect_stdout

import pytest

from memexp.credentials import is_free, mask, mask_data, masked_output, remember
from memexp.launch.plan.recipe import all_recipes
from memexp.launch.plan.run_spec import resolve

SECRET = "CANARYx7Q2"


@pytest.mark.parametrize(
    "text",
    [
        f"options={{token: {SECRET}, size: 3}}",
        f'PASSWORD="{SECRET}"',
        f"pw: {SECRET}, secretkey: {SECRET}, signingKey={SECRET}, pat={SECRET}, sas: {SECRET} GH_PAT={SECRET}",
        f"db_password: {SECRET}",
        f'{{"api_key": "{SECRET} and more"}}',
        f'{{\\"api_key\\": \\"{SECRET}\\"}}',
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"env.options.key={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"with Bearer {SECRET}0123456789",
        f"https://{SECRET}:x-oauth-basic@host/a.git",
        f"https://me:{SECRET}@host/a",
        f"https://me:p@{SECRET}@host/a",
        f"https://host/blob?x=1&sig={SECRET}&y=2",
        f"https://hooks.slack.com/services/T0/{SECRET}",
        f"clone ghp_{SECRET}0123456789 failed",
        f"sk-proj-{SECRET}0123456789",
        f"-----BEGIN RSA PRIVATE KEY-----\nab\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_a_credential_is_masked_and_a_second_time_changes_nothing(text):
    assert SECRET not in mask(text)
    assert "***" in mask(text)
    assert mask(mask(text)) == mask(text)
    assert not is_free(text)


@pytest.mark.parametrize(
    "text",
    [
        "pattern=S d_hidden=16 trainer.total_timesteps=2k",
        "max_tokens=512 tokenizer: bert num_token=3",
        "KeyError: 'observation'",
        "unknown key: 'wrappers'",
        "options={token: $SHOP_TOKEN}",
        "ssh://git@github.com/a/b git@github.com:a/b https://github.com/a/b",
        "sort_key: timestamp, monkey=business",
        "def f(token: str = None) -> bool:",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert mask(text) == text
    assert is_free(text)


def test_a_long_random_string_may_be_a_key_and_a_hash_of_git_is_none():
    assert not is_free("x = 'q1Z7q1Z7q1Z7q1Z7q1Z7q1Z7q1Z7q1Z7'")
    assert is_free("index 0123456789abcdef0123456789abcdef01234567..89 100644\n--- a/memexp/runs/directory.py\n")


def test_data_is_masked_below_secret_names_at_any_depth():
    data = {"options": {"token": SECRET, "at": 3, "nested": [{"api_key": SECRET}, {"pin_code_secret": 123456}]}}
    data |= {"wrappers": [f"a:b(password='{SECRET}')"], "max_token": 5, "url": f"https://me:{SECRET}@host"}
    masked = mask_data(data)
    assert SECRET not in str(masked)
    assert masked["options"] == {"token": "***", "at": 3, "nested": [{"api_key": "***"}, {"pin_code_secret": "***"}]}
    assert masked["max_token"] == 5


def test_configs_of_recipes_are_stored_as_they_are():
    for recipe in all_recipes():
        config = resolve(recipe, {}).model_dump()
        assert mask_data(config) == config


def test_values_of_secret_variables_and_typed_words_are_masked_wherever_they_occur(monkeypatch):
    monkeypatch.setattr("memexp.credentials._typed", set())
    monkeypatch.setenv("SHOP_TOKEN", "a'b \\ CANARYTOKEN")
    monkeypatch.setenv("DATABASE_URL", "postgres://me:CANARYPASS@db/x")
    monkeypatch.setenv("SHORT_KEY", "on")
    monkeypatch.setenv("PRIVATE_KEY_FILE", "/home/me/key")
    remember({"options": {"password": "CANARYTYPED"}})
    remember(["options={token: CANARYWORD}"])
    token = "a'b \\ CANARYTOKEN"
    said = f"on /home/me/key {token} {token!r} CANARYPASS CANARYTYPED CANARYWORD is wrong"
    assert "CANARY" not in mask(said)
    assert mask(said).startswith("on /home/me/key ***")


def test_output_that_goes_to_a_file_is_masked_line_by_line(monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    with redirect_stdout(io.StringIO()) as file, masked_output():
        print("token", SECRET, sep="=")
        print("half of CANARY", end="")
        print("x7Q2 and the rest", flush=True)
        sys.stdout.writelines(["a\n", f"{SECRET}\n"])
        print("last", end="")
    assert file.getvalue() == "token=***\nhalf of *** and the rest\na\n***\nlast"
