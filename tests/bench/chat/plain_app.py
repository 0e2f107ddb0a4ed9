# mypy: untyped-calls-exclude=chainlit
"""The chat app of many first guides, for `chainlit run`: the OpenAI client, token by token."""

from __future__ import annotations

import os

import chainlit as cl
from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=os.environ["UPSTREAM_URL"], api_key="none")


@cl.on_chat_start
async def on_chat_start() -> None:
    """Begin a conversation."""
    cl.user_session.set("messages", [{"role": "system", "content": "You are helpful."}])


@cl.on_message
async def on_message(message: cl.Message) -> None:
    """Answer a question."""
    messages = cl.user_session.get("messages")
    messages.append({"role": "user", "content": message.content})
    answer = cl.Message(content="")
    stream = await client.chat.completions.create(
        model="emitter", messages=messages, max_tokens=1024, temperature=0.7, stream=True
    )
    async for chunk in stream:
        if chunk.choices and (token := chunk.choices[0].delta.content):
            await answer.stream_token(token)
    messages.append({"role": "assistant", "content": answer.content})
    await answer.update()
