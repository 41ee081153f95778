"""Whose turn it is: one at a time, what was begun first, and nobody is forgotten."""

import asyncio

import pytest

from trader_pipeline.agents.turns import Turns


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_was_begun_comes_first_and_else_who_came_first():
    held = []

    async def ask(turns, name, *, begun=False):
        async with turns.take(begun=begun):
            held.append(name)
            await asyncio.sleep(0)

    async def all_of_them():
        turns = Turns()
        async with turns.take(begun=False):
            waiting = []
            for name, begun in (("a", False), ("b", False), ("c", True), ("d", True)):
                waiting.append(asyncio.create_task(ask(turns, name, begun=begun)))
                await settle()
            assert held == []
        await asyncio.gather(*waiting)
        await ask(turns, "later")

    asyncio.run(all_of_them())
    assert held == ["c", "d", "a", "b", "later"]


@pytest.mark.parametrize("cancel_when", ["waiting", "its turn has just come"])
def test_who_gives_up_holds_nobody_up(cancel_when):
    async def one_gives_up():
        turns, order = Turns(), []

        async def ask(name):
            async with turns.take(begun=False):
                order.append(name)

        async with turns.take(begun=False):
            gone, next_one = asyncio.create_task(ask("gone")), asyncio.create_task(ask("next"))
            await settle()
            if cancel_when == "waiting":
                gone.cancel()
                await settle()
        gone.cancel()
        await asyncio.wait_for(next_one, timeout=5)
        assert order == ["next"]
        await asyncio.wait_for(ask("later"), timeout=5)

    asyncio.run(one_gives_up())


def test_a_block_that_fails_gives_the_turn_away():
    async def failing():
        turns = Turns()
        with pytest.raises(RuntimeError):
            async with turns.take(begun=True):
                raise RuntimeError
        async with asyncio.timeout(5):
            async with turns.take(begun=False):
                pass

    asyncio.run(failing())
