"""The same with httpx."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
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
    app.state.http = httpx.AsyncClient(limits=httpx.Limits(max_connections=20_000), timeout=120)
    yield
    await app.state.http.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/rpc")
async def rpc(call: Call) -> dict[str, object]:
    response = await app.state.http.post(f"{PROVIDER}/charges", json=call.params.model_dump())
    return {"jsonrpc": "2.0", "id": call.id, "result": response.json()}
