"""Webhooks: where events are sent, what became of each delivery, and what was missed, sent again."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from domain import EVENTS
from services.http.console.api import Refused, path_of
from services.http.console.rendering import count
from services.http.console.screen import ROOT, Menu, Screen, Visit

_LIST = f"{ROOT}/webhooks"
STATES = ("pending", "parked", "delivered")
ABOUT = ("activities", "tasks", "members")
# Parked deliveries that are sent again by one press of a button.
_AT_ONCE = 100


async def hooks(visit: Visit) -> Response:
    """List the webhooks, and show a form for a new one."""
    page = await visit.api.get(path_of("webhooks"), visit.query)
    return visit.page("webhooks.html", page=page, types=list(EVENTS), about=ABOUT)


async def create(visit: Visit) -> Response:
    """Create a webhook, and show its secret."""
    form, body = visit.form, _asked(visit)
    body |= {"id": form.one("id")} if form.one("id") else {}
    if form.one("from_position"):
        body["from_position"] = _whole(visit, "from_position")
    made = await visit.api.send("POST", path_of("webhooks"), {k: v for k, v in body.items() if v is not None})
    return _secret(visit, f"The webhook {made['id']} is created.", made["secret"], made["id"])


def _asked(visit: Visit) -> dict[str, Any]:
    """Return where the form has events sent, and which ones; null is all."""
    form = visit.form
    about = {name: values for name in ABOUT if (values := form.one(name).replace(",", " ").split())}
    return {"url": form.one("url"), "types": form.all("types") or None, "filter": about or None}


def _whole(visit: Visit, name: str) -> int:
    text = visit.form.one(name)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refused(422, {"code": "invalid", "detail": "a whole number from 0 on is needed", "pointer": f"/{name}"})
    return int(text)


def _secret(visit: Visit, text: str, secret: str, webhook: str) -> Response:
    return visit.done(text, template="secret.html", secret=secret, webhook=webhook)


async def hook(visit: Visit) -> Response:
    """Show a webhook and a page of its deliveries."""
    own = path_of("webhooks", visit.parts["id"])
    found = await visit.api.get(own)
    page = await visit.api.get(f"{own}/deliveries", visit.query)
    return visit.page("webhook.html", hook=found, page=page, states=STATES, types=list(EVENTS), about=ABOUT)


async def change(visit: Visit) -> Response:
    """Change where events are sent, or which ones."""
    await visit.api.send("PATCH", path_of("webhooks", visit.parts["id"]), _asked(visit))
    return visit.done("The webhook is changed.")


async def switch(visit: Visit) -> Response:
    """Pause a webhook, or have it go on."""
    body = {"state": visit.form.one("state")}
    found = await visit.api.send("PATCH", path_of("webhooks", visit.parts["id"]), body)
    return visit.done(f"The webhook is {found['state']}.")


async def delete(visit: Visit) -> Response:
    """Delete a webhook."""
    if not visit.form.one("sure"):
        return _sure(visit, "The webhook, its secret and all its deliveries are deleted.", "Delete it")
    await visit.api.send("DELETE", path_of("webhooks", visit.parts["id"]))
    return visit.go(_LIST)


async def rotate(visit: Visit) -> Response:
    """Give a webhook another secret, and show it."""
    webhook, overlap = visit.parts["id"], _whole(visit, "overlap_seconds")
    if not visit.form.one("sure"):
        ask = f"The receiver needs the new secret. Deliveries have the signatures of both for {count(overlap)} s."
        return _sure(visit, ask, "Rotate the secret", overlap_seconds=overlap)
    made = await visit.api.send("POST", path_of("webhooks", webhook, "rotate-secret"), {"overlap_seconds": overlap})
    return _secret(visit, "The webhook has a new secret.", made["secret"], webhook)


async def replay(visit: Visit) -> Response:
    """Send everything after a position again."""
    webhook, position = visit.parts["id"], _whole(visit, "from_position")
    if not visit.form.one("sure"):
        ask = (
            f"Every event after position {count(position)} that the webhook wants is sent again in order, under the"
            " same ids. What is known of these deliveries is forgotten."
        )
        return _sure(visit, ask, "Send them again", from_position=position)
    await visit.api.send("POST", path_of("webhooks", webhook, "replay"), {"from_position": position})
    return visit.done(f"Events after position {count(position)} are sent again.")


async def replay_one(visit: Visit) -> Response:
    """Send one delivery again."""
    own = path_of("webhooks", visit.parts["id"], "deliveries", visit.parts["position"], "replay")
    found = await visit.api.send("POST", own)
    return visit.done(f"The event {found['position']} is sent again.")


async def replay_parked(visit: Visit) -> Response:
    """Send the deliveries that were given up again, the oldest of those that are listed first."""
    own = path_of("webhooks", visit.parts["id"], "deliveries")
    page = await visit.api.get(own, {"state": "parked", "limit": _AT_ONCE})
    positions = [each["position"] for each in page["data"]][::-1]
    if not visit.form.one("sure"):
        ask = f"{count(len(positions))} deliveries that were given up are sent again, and arrive after later ones."
        return _sure(visit, ask + (" There are more." if page["next"] else ""), "Send them again")
    for position in positions:
        await visit.api.send("POST", f"{own}/{position}/replay")
    return visit.done(f"{count(len(positions))} deliveries are sent again.")


def _sure(visit: Visit, ask: str, label: str, **values: Any) -> Response:
    return visit.page("sure.html", ask=ask, path=visit.path, values=values, label=label)


_ONE = f"{_LIST}/{{id}}"
SCREENS = (
    Screen("GET", _LIST, hooks, permission="webhooks", menu=Menu("Webhooks", "webhook", "k", 9)),
    Screen("POST", _LIST, create, permission="webhooks"),
    Screen("GET", _ONE, hook, permission="webhooks"),
    Screen("POST", _ONE, change, permission="webhooks"),
    Screen("POST", f"{_ONE}/state", switch, permission="webhooks"),
    Screen("POST", f"{_ONE}/delete", delete, permission="webhooks"),
    Screen("POST", f"{_ONE}/rotate-secret", rotate, permission="webhooks"),
    Screen("POST", f"{_ONE}/replay", replay, permission="webhooks"),
    Screen("POST", f"{_ONE}/replay-parked", replay_parked, permission="webhooks"),
    Screen("POST", f"{_ONE}/deliveries/{{position}}/replay", replay_one, permission="webhooks"),
)
