"""An agent: a loop of thinking and using tools that ends when there is an answer, or when max_cycles forbids another round."""

import asyncio
from dataclasses import dataclass

from graflow import TaskContext, WorkflowEngine, task, workflow
from graflow.errors import CycleLimitExceededError

HEIGHTS = {"Eiffel Tower": 330, "Big Ben": 96}
TOOLS = {"height": HEIGHTS.get, "difference": lambda numbers: numbers[0] - numbers[1]}


@dataclass
class Thought:
    text: str
    tool: str = ""
    argument: object = None


def language_model(question: str, known: list) -> Thought:
    """Stands in for a model: looks at what is known, and answers or asks for more."""
    if "love" in question:
        return Thought("Let me look that up once more.", "height", "Big Ben")
    if len(known) < 2:
        return Thought(f"First I need height {len(known) + 1} of 2.", "height", list(HEIGHTS)[len(known)])
    if len(known) == 2:
        return Thought("Now the difference.", "difference", known)
    return Thought(f"The Eiffel Tower, by {known[-1]} m.")


@task(max_cycles=4)
async def agent(ctx: TaskContext, question: str) -> Thought:
    thought = language_model(question, await ctx.channel.get("known", []))
    print(f"  round {ctx.cycle}: {thought.text}")
    if not thought.tool:
        ctx.end_loop()
    return thought


@task
async def use_tool(ctx: TaskContext, agent: Thought) -> None:
    await ctx.channel.append("known", TOOLS[agent.tool](agent.argument))


with workflow("agent", output=agent) as wf:
    wf.add(agent >> use_tool >> agent)


async def main() -> None:
    async with WorkflowEngine() as engine:
        for question in ("Which is higher, and by how much?", "What is love?"):
            try:
                print((await engine.execute(wf, inputs={"question": question})).output.text)
            except CycleLimitExceededError as error:
                print(f"no answer after {error.limit} rounds")


if __name__ == "__main__":
    asyncio.run(main())
