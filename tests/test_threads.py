"""A thread's work is outlasted by the caller, cancelled or not."""

import asyncio
import threading

import pytest

from gateway.threads import finish_in_thread


async def test_results_and_errors_come_back() -> None:
    assert await finish_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await finish_in_thread(divmod, 7, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_thread(fails: bool) -> None:
    started, finish, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        assert finish.wait(10)
        done.set()
        if fails:
            raise OSError("after the cancellation")

    task = asyncio.create_task(finish_in_thread(work))
    await asyncio.to_thread(started.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    finish.set()
    await asyncio.wait([task], timeout=10)
    assert done.is_set()
    assert task.cancelled()
