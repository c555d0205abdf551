"""A failure that does not stop the others: on_failure="continue", and what a failed run still has to show."""

import asyncio

from graflow import WorkflowEngine, task, workflow
from graflow.errors import TaskFailedError


@task
async def translate(language: str) -> str:
    await asyncio.sleep(0.01)
    words = {"French": "bonjour", "Finnish": "hei", "Latin": "salve"}
    if language not in words:
        raise KeyError(f"no dictionary for {language}")
    return words[language]


@task
async def proofread(word: str) -> str:
    return word.capitalize() + "!"


with workflow("greetings") as wf:
    for language in ("French", "Klingon", "Finnish", "Latin"):
        wf.add(translate.clone(language, language=language) >> proofread.clone(f"{language}, proofread"))


async def main() -> None:
    async with WorkflowEngine() as engine:
        try:
            await engine.execute(wf, on_failure="continue")
        except TaskFailedError as error:
            print(f"failed: {error.task_id} ({error.__cause__})")
            for name, value in sorted(error.result.results.items()):
                print(f"done:   {name}: {value}")
            for name, why in error.result.others.items():
                print(f"not:    {name}: {why}")


if __name__ == "__main__":
    asyncio.run(main())
