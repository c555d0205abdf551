"""A router: goto chooses among the successors; what is not chosen is skipped, and no join waits for it."""

import asyncio

from graflow import TaskContext, WorkflowEngine, task, workflow


@task
async def triage(ctx: TaskContext, ticket: str) -> None:
    if "hello" in ticket:
        ctx.terminate_workflow("nothing to do")  # ends the run here, with success
    if "invoice" in ticket:
        ctx.goto(billing)
    if "crash" in ticket:
        ctx.goto(engineering)
        ctx.goto("apology")  # a task or its id; several add up


@task
async def billing(ticket: str) -> str:
    return "A corrected invoice is on its way."


@task
async def engineering(ticket: str) -> str:
    await asyncio.sleep(0.01)
    return "It will be fixed in the next release."


@task
async def apology() -> str:
    return "We are sorry."


@task
async def reply(billing: str = "", engineering: str = "", apology: str = "") -> str:  # skipped tasks have no result
    return " ".join(part for part in (apology, billing, engineering) if part)


with workflow("support") as wf:
    triage >> billing >> reply  # statements inside the block draw, as wf.add(...) does
    triage >> engineering >> reply
    triage >> apology >> reply


async def main() -> None:
    async with WorkflowEngine() as engine:
        for ticket in ("my invoice is wrong", "it will crash at start", "the crash broke my invoice", "just saying hello"):
            result = await engine.execute(wf, inputs={"ticket": ticket})
            print(f"{ticket}: {result.output or 'no reply'}")


if __name__ == "__main__":
    asyncio.run(main())
