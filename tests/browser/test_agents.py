"""Programs and agents drive a run from start to answer, over the same wires as on a Space."""

import ast
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.browser.conftest import App
from tests.conftest import run_async

CONFIG = {
    "task": {"id": "bistro"},
    "method": {"name": "lora", "rank": 2},
    "training": {"max_steps": 3, "batch_size": 2, "eval_rows": 2, "eval_every": 3},
}
FEW = {"max_new_tokens": 4, "temperature": 0}
Call = Callable[..., Awaitable[Any]]


def test_a_program_drives_a_run(app: App) -> None:
    client = Client(app.url, verbose=False)
    try:
        assert client.predict(CONFIG, api_name="/estimate")["trainable_params"] > 0
        run_id = client.predict(CONFIG, "from a program", api_name="/start_run")
        for _ in range(30):
            told = client.predict(run_id, api_name="/follow_run")
            if told["over"]:
                break
        assert (told["status"], told["step"]) == ("finished", 3), told
        assert client.predict(run_id, api_name="/get_results")["saved_step"] == 3
        losses = client.predict(run_id, "train/loss", api_name="/get_metrics")
        assert [value["step"] for value in losses] == [1, 2, 3]
        columns = client.predict("name: Biox Mill =>", [run_id], FEW, api_name="/generate")
        assert [column["name"] for column in columns] == ["base", run_id]
        assert client.predict(run_id, api_name="/export_link")["link"] == f"/studio/export/{run_id}.zip"
    finally:
        client.close()


def test_an_agent_drives_a_run(app: App) -> None:
    """A client of the Model Context Protocol, which knows nothing but what the tools say of themselves."""

    async def drive(call: Call) -> None:
        assert "lora" in {method["name"] for method in await call("list_methods")}
        assert "rank" in (await call("describe_method", name="lora"))["params"]["properties"]
        run_id = await call("start_run", config=CONFIG, name="by an agent")
        for _ in range(30):
            told = await call("follow_run", run_id=run_id)
            if told["over"]:
                break
        assert told["status"] == "finished", told
        assert (await call("get_results", run_id=run_id))["metrics"]
        assert isinstance(await call("get_findings", run_id=run_id), list)
        columns = await call("generate", prompt="name: Biox Mill =>", runs=[run_id], sampling=FEW)
        assert [column["done"] for column in columns] == [True, True]

    run_async(with_tools(app.url, drive))


def test_tools_say_what_they_are_and_what_went_wrong(app: App) -> None:
    async def look(call: Call) -> None:
        with pytest.raises(AssertionError, match=r"There is no method 'lorra'\. Did you mean 'lora'"):
            await call("describe_method", name="lorra")

    tools = run_async(with_tools(app.url, look))
    assert {"list_methods", "estimate", "start_run", "follow_run", "get_results", "generate", "stop_run"} <= set(tools)
    for name, tool in tools.items():
        assert len(tool.description) > 20, name
        for parameter, schema in tool.inputSchema["properties"].items():
            assert schema.get("description"), f"{name}: {parameter}"


async def with_tools(url: str, work: Callable[[Call], Awaitable[None]]) -> dict[str, Any]:
    """Gives some work a way to call tools; returns them by name."""
    async with (
        streamable_http_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()

        async def call(tool: str, /, **values: Any) -> Any:
            result = await session.call_tool(tool, values)
            (content,) = result.content
            assert not result.isError, content.text
            try:
                return ast.literal_eval(content.text)  # Gradio writes values as Python does
            except (ValueError, SyntaxError):
                return content.text

        await work(call)
        return {tool.name: tool for tool in (await session.list_tools()).tools}
