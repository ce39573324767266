"""Runs -> the answer: does it need memory, did it learn, did it converge, how long does it take, what to change.

`load` sorts runs into environments, arms and seeds. `learning`, `convergence`, `memory_verdict` and `timing` each
answer one question on the `scale` of returns, with the tools of `statistics`. `sequential_plan` plans more seeds.
`answer` collects their dataclasses. At the edge, `sentences` and `recommendations` turn them into text, `answer_json`
into JSON, `figures` and `report` into pictures and a page. How each verdict is decided: docs/method.md.
"""
