"""The MCP server's thread beside a broker."""

import asyncio
import logging
from pathlib import Path

import httpx2
import pytest
from tests.support.mcp_serving import mcp_config

from monstermq_mcp import service
from monstermq_mcp.beside import McpBeside
from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_mcp.process import McpProcess
from monstermq_shared.config import LoadedConfig
from monstermq_shared.errors import StartupError

SOON_S = 20.0


def beside(folder: Path) -> McpBeside:
    return McpBeside(Needs(config=mcp_config(folder), version="1.2.3"), Counts())


async def health(mcp: McpBeside) -> int:
    (url,) = mcp.urls()
    async with httpx2.AsyncClient() as client:
        # The port's backlog holds it until the thread is there.
        answer = await client.get(url.replace("/mcp", "/health"), timeout=SOON_S)
        return int(answer.status_code)


def process_of(folder: Path) -> McpProcess:
    config = mcp_config(folder)
    return McpProcess(LoadedConfig(config=config, source="", warnings=()), supervised=None)


def cancel_server(loop: asyncio.AbstractEventLoop) -> None:
    """End the server as a fault of the SDK's task group would."""
    (serving,) = [task for task in asyncio.all_tasks(loop) if task.get_name() == "mcp"]
    serving.cancel()


async def test_it_answers_from_the_start_on_and_not_after_the_stop(tmp_path: Path) -> None:
    mcp = beside(tmp_path)
    await mcp.start()
    assert await health(mcp) == 200
    assert mcp.concerns() == []
    await mcp.stop()
    await mcp.stop()
    with pytest.raises(httpx2.ConnectError):
        await health(mcp)


async def test_a_stop_right_after_the_start_ends_it_too(tmp_path: Path) -> None:
    mcp = beside(tmp_path)
    await mcp.start()
    await mcp.stop()
    with pytest.raises(httpx2.ConnectError):
        await health(mcp)


async def test_the_port_is_taken_while_it_runs(tmp_path: Path) -> None:
    first = beside(tmp_path)
    await first.start()
    config = first._needs.config
    second = McpBeside(Needs(config=config, version=""), Counts())
    with pytest.raises(StartupError, match=r"MCP\.Port"):
        await second.start()
    await second.stop()
    await first.stop()


async def test_a_fault_of_it_is_told_and_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(service, "build_app", fail)
    mcp = beside(tmp_path)
    with caplog.at_level(logging.CRITICAL):
        await mcp.start()
        thread = mcp._thread
        assert thread is not None
        await asyncio.to_thread(thread.join, SOON_S)
    assert mcp.concerns() == ["the MCP server has failed: RuntimeError('a bug')"]
    assert "the broker goes on" in caplog.text
    with pytest.raises(httpx2.ConnectError):
        await health(mcp)
    await mcp.stop()


async def test_it_tells_when_it_has_ended_by_itself(tmp_path: Path) -> None:
    mcp = beside(tmp_path)
    await mcp.start()
    assert await health(mcp) == 200
    loop, thread = mcp._loop, mcp._thread
    assert loop is not None
    assert thread is not None
    loop.call_soon_threadsafe(cancel_server, loop)
    await asyncio.to_thread(thread.join, SOON_S)
    assert mcp.concerns() == ["the MCP server has failed: MonsterError('its task was cancelled')"]
    with pytest.raises(httpx2.ConnectError):
        await health(mcp)
    await mcp.stop()


async def test_its_process_ends_when_it_has_ended_by_itself(tmp_path: Path) -> None:
    process = process_of(tmp_path)
    await process.start()
    cancel_server(asyncio.get_running_loop())
    async with asyncio.timeout(SOON_S):
        error = await process.failed
    assert str(error) == "a fault has ended the MCP server"
    await process.stop()


async def test_its_process_does_not_fail_by_a_stop(tmp_path: Path) -> None:
    process = process_of(tmp_path)
    await process.start()
    await process.stop()
    assert process._watching is not None
    await process._watching
    assert not process.failed.done()
