"""What the OpenAPI document says of the receipts of bulks."""

from __future__ import annotations

from services.http.native.components import ref
from services.http.native.examples import Json, answer, parameter, problems

# What can have become of a part of a bulk.
OUTCOMES = ("accepted", "rejected", "undecided")
BULK_ID = "0199a1f0-0000-7000-8000-00000000b01c"
# Of a part's command.
RECEIPT = "/v1/commands/6e0c1a52-7d5b-4c1e-9f38-2b1f0d9a4c77"
BULK: Json = {
    "id": BULK_ID,
    "command": "task.create",
    "state": "running",
    "created_at": "2025-10-31T01:50:00.123456Z",
    "total": 3,
    "sent": 2,
    "accepted": 1,
    "rejected": 1,
    "undecided": 1,
    "position": 42,
    "items": [
        {"ref": "order-1", "id": "t1", "receipt": RECEIPT, "outcome": "accepted", "position": 42},
        {"ref": "order-2", "id": "t2", "outcome": "undecided"},
        {
            "ref": "order-3",
            "id": None,
            "outcome": "rejected",
            "error": {"code": "wrong-shape", "detail": "flow is required", "pointer": "/flow"},
        },
    ],
}

GET_BULK: Json = {
    "operationId": "get_bulk",
    "tags": ["commands"],
    "summary": "Read the receipt of a bulk that is carried out in the background",
    "description": "A bulk is `running` until each of its parts is accepted or rejected. A part that is `undecided` is "
    "still to be sent or decided, and has its `receipt` afterwards. Kept as long as the receipts of commands are.",
    "parameters": [{**parameter("id", "The bulk's id", place="path"), "example": BULK_ID}],
    "responses": {
        "200": answer("How far it is, and each part in the order of the request", BULK, schema=ref("Bulk")),
        **problems(400, 404),
    },
}
