"""Messages to a channel, received by a real HTTP server: done, failed and stalled, in the channel's format."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from memexp.launch.cloud import node
from memexp.launch.status.attempts import add_start
from memexp.launch.status.notify import TRIES, notify, payload, redacted
from memexp.runs import Exit, Run


class Channel(HTTPServer):
    """Keeps what it is sent; answers with `answers` in turn, then 200."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0/B0/s3cr3t"


class Handler(BaseHTTPRequestHandler):
    server: Channel

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append({"path": self.path, "type": self.headers["Content-Type"], **json.loads(body)})
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, format, *words): ...


@pytest.fixture
def channel(monkeypatch) -> Iterator[Channel]:
    server = Channel()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("MEMEXP_WEBHOOK_URL", server.url)
    yield server
    server.shutdown()
    server.server_close()


def test_a_message_names_run_and_event(channel):
    assert notify("failed", "a.run", "out of memory")
    (message,) = channel.received
    assert (message["text"], message["type"]) == ("a.run failed: out of memory", "application/json")
    assert message["path"] == "/services/T0/B0/s3cr3t"


def test_nothing_is_sent_or_said_unless_a_webhook_is_set(monkeypatch):
    monkeypatch.delenv("MEMEXP_WEBHOOK_URL", raising=False)
    assert not notify("done", "a", tell=pytest.fail)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://hooks.slack.com/services/T/B/x", "text"),
        ("https://discord.com/api/webhooks/1/x", "content"),
        ("https://ptb.discord.com/api/webhooks/1/x", "content"),
        ("https://discordapp.com/api/webhooks/1/x", "content"),
        ("https://discord.com/api/webhooks/1/x/slack", "text"),
        ("https://notdiscord.com/x", "text"),
        ("https://mattermost.example/hooks/x", "text"),
    ],
)
def test_slack_and_discord_are_each_written_in_their_own_format(url: str, key: str):
    assert json.loads(payload(url, "hello"))[key] == "hello"


def test_a_message_has_no_control_characters_and_calls_nobody(channel):
    assert notify("failed", "a", "\x1b]52;c;ZXZpbA==\x1b\\ \u202e<!channel> & z")
    assert channel.received[0]["text"] == "a failed: ␛]52;c;ZXZpbA==␛\\ \ufffd&lt;!channel&gt; &amp; z"
    assert json.loads(payload("https://discord.com/api/webhooks/1/x", "@everyone"))["allowed_mentions"] == {"parse": []}


def test_a_server_that_stumbles_is_asked_once_more(channel):
    channel.answers = [503]
    assert notify("done", "a")
    assert len(channel.received) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/s3cr3t",
        "file:///etc/passwd?s3cr3t",
        "s3cr3t",
        "http://[s3cr3t",
        "http://user:s3cr3t@127.0.0.1:9/x",
        "http://127.0.0.1:9/s3cr3t with a space",
    ],
)
def test_what_goes_wrong_is_told_without_the_address(monkeypatch, url: str):
    monkeypatch.setenv("MEMEXP_WEBHOOK_URL", url)
    told: list[str] = []
    assert not notify("done", "a", tell=told.append)
    assert len(told) == 1
    assert "s3cr3t" not in told[0] + redacted(url)


def test_a_server_that_speaks_another_language_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MEMEXP_WEBHOOK_URL", f"http://127.0.0.1:{server.getsockname()[1]}/s3cr3t")
        thread = threading.Thread(target=lambda: [answer(server.accept()[0]) for _ in range(TRIES)], daemon=True)
        thread.start()
        told: list[str] = []
        assert not notify("done", "a", tell=told.append)
        thread.join()
    assert told == ["no message could be sent to http://127.0.0.1/...: BadStatusLine"]


def answer(connection: socket.socket) -> None:
    with connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_a_refusal_is_told_with_its_code_and_without_the_address(channel):
    channel.answers = [404]
    told: list[str] = []
    assert not notify("done", "a", tell=told.append)
    assert told == ["no message could be sent to http://127.0.0.1/...: the server answered 404"]


def test_a_node_tells_how_a_start_ended_and_what_the_run_has_cost(channel):
    run = Run.named("a.run")
    add_start(run, 0, price_per_hour=3.0)
    (run.path / "starts" / "000.seconds").write_text("7200")
    run.finish(Exit(status="completed"))
    assert node.end(run, 0, 0, stopped=False) == 0
    run.finish(Exit(status="failed", reason="FloatingPointError: loss is nan"))
    assert node.end(run, 0, 1, stopped=False) == 1
    run.finish(Exit(status="preempted"))
    assert node.end(run, 0, 75, stopped=False) == 75  # it is restarted: nobody needs to come
    assert [message["text"] for message in channel.received] == [
        "a.run done: 0 agent steps, 2.0 h, $6.00",
        "a.run failed: FloatingPointError: loss is nan (2.0 h, $6.00)",
    ]


def test_a_silent_run_is_told(channel, monkeypatch):
    monkeypatch.setenv("MEMEXP_RUN", "a.run")
    assert node.main(["stalled", "1800"]) == 0
    assert channel.received[0]["text"] == "a.run stalled: no metrics for 1800 s; it is restarted"
