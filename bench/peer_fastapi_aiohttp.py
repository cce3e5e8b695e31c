"""The peer most teams would write: FastAPI and aiohttp's client, no broker, no deadlines, no answer to what happens on a loss."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI
from pydantic import BaseModel, Field

PROVIDER = os.environ["PROVIDER"]


class Params(BaseModel):
    account: str
    amount: int = Field(ge=1)


class Call(BaseModel):
    jsonrpc: str
    id: int | str
    method: str
    params: Params


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20_000))
    yield
    await app.state.http.close()


app = FastAPI(lifespan=lifespan)


@app.post("/rpc")
async def rpc(call: Call) -> dict[str, object]:
    async with app.state.http.post(f"{PROVIDER}/charges", json=call.params.model_dump()) as response:
        return {"jsonrpc": "2.0", "id": call.id, "result": await response.json()}
