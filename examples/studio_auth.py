"""Who may use the server: STUDIO_TOKENS="ada=TOKEN,bo=TOKEN"; each sees their own threads only.

Assistants are everybody's; the store and cron jobs nobody's. docs/studio.md shows how to use it.
"""

import hmac
import os
from typing import Any

from langgraph_sdk import Auth

auth = Auth()
USERS = dict(pair.split("=", 1) for pair in os.environ["STUDIO_TOKENS"].split(","))


@auth.authenticate
async def authenticate(authorization: str | None) -> str:
    token = (authorization or "").removeprefix("Bearer ")
    for name, known in USERS.items():
        if hmac.compare_digest(token.encode(), known.encode()):
            return name
    raise Auth.exceptions.HTTPException(status_code=401, detail="unknown token")


@auth.on.threads
async def own_threads(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, str]:
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on
async def anything_else(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> bool:
    return ctx.resource == "assistants"
