"""Runs -> the answer: does it need memory, did it learn, did it converge, how long, what to change.

`load` reads run directories; `scale` says what returns are read against; `learning`, `memory`, `convergence` and
`timing` each judge one question with the tools of `statistics`; `advice` says what to run next; `answer` puts them
together as JSON, `figures` and `report` as pictures and a page. How each verdict is decided: docs/method.md.
"""
