"""Messages to a Slack or Discord channel when a run is done, has failed or is silent; off unless a webhook is set.

The address in $MEMEXP_WEBHOOK_URL is a secret: everybody who knows it can write to the channel. So it is never printed
or stored, and error messages show only its host.
"""

import html
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Literal

from memexp.credentials import mask
from memexp.formatting import printable

WEBHOOK = "MEMEXP_WEBHOOK_URL"
TIMEOUT_S = 10.0
TRIES = 2
Event = Literal["done", "failed", "stalled"]


def notify(event: Event, run: str, details: str = "", tell: Callable[[str], None] = print) -> bool:
    """Send one message; returns whether it arrived. Does nothing without a webhook; never raises."""
    url = os.environ.get(WEBHOOK, "").strip()
    if not url:
        return False
    text = printable(mask(f"{run} {event}" + (f": {details}" if details else "")))
    why = "the address is not http(s)"
    for _ in range(TRIES if re.match(r"https?://", url) else 0):
        try:
            request = urllib.request.Request(url, payload(url, text), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            why = f"the server answered {error.code}"
            if error.code < 500:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:  # a malformed address, or answer
            why = type(error).__name__
    tell(f"no message could be sent to {redacted(url)}: {why}")
    return False


def payload(url: str, text: str) -> bytes:
    """The message in the form of Discord's webhooks (`content`), or of Slack's and compatible ones (`text`).

    No name or reason in it calls people (@everyone, <!channel>).
    """
    host = urllib.parse.urlsplit(url).hostname or ""
    discord = re.search(r"(^|\.)discord(app)?\.com$", host) and not url.rstrip("/").endswith("/slack")
    if discord:
        return json.dumps({"content": text[:2000], "allowed_mentions": {"parse": []}}).encode()
    return json.dumps({"text": html.escape(text, quote=False)}).encode()


def redacted(url: str) -> str:
    """The part of a webhook's address that may be shown: scheme and host."""
    try:
        parts = urllib.parse.urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/..." if parts.hostname else "the webhook"
    except ValueError:
        return "the webhook"
