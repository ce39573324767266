"""W&B's server as its client sees it: answers GraphQL queries about runs that lie in directories.

Only the network is replaced: runs, paging and parsing are the real client's. Answers have the shape that the server's
have, history in pages by step, config and summary as JSON text.
"""

import json
from types import SimpleNamespace
from typing import Any

from wandb.apis.public import Run as ApiRun

from memexp.runs import Run
from memexp.runs.wandb_sink import INFO

STATES = {"completed": "finished", "failed": "failed", "preempted": "finished", "cancelled": "killed", None: "running"}


class Server:
    """The runs of one project; counts the pages of history that were asked for."""

    def __init__(self, runs: list[Run], with_info: bool = True):
        self.runs = {run.name: run for run in runs}
        self.with_info = with_info
        self.pages = 0

    def api(self, **settings: Any) -> Any:
        """Stands in for wandb.Api(...)."""
        return SimpleNamespace(runs=self._list)

    def execute(self, query: Any, variable_values: dict[str, Any], **rest: Any) -> dict[str, Any]:
        """The answer to one query of the client."""
        name = variable_values.get("run") or variable_values["name"]
        return {"project": {"run": self._run(name, variable_values)}}

    def _list(self, path: str, lazy: bool) -> list[ApiRun]:
        assert not lazy
        entity, project = path.split("/")
        return [ApiRun(self, entity, project, name, attrs=self._attributes(name), lazy=False) for name in self.runs]

    def _attributes(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        config = run.config
        if self.with_info:
            config = {**config, INFO: run.info.model_dump()}
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "state": STATES[run.exit.status if run.exit else None],
            "config": json.dumps({key: {"value": value} for key, value in config.items()}),
            "summaryMetrics": json.dumps({}),
            "systemMetrics": json.dumps({}),
            "historyLineCount": len(run.metrics()),
            "commit": "0123456789abcdef",
            "user": {"name": "u", "username": "u"},
        }

    def _run(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        lines = [{**line, "_step": line["agent_steps"]} for line in self.runs[name].metrics()]
        if "minStep" in asked:
            self.pages += 1
            rows = [line for line in lines if asked["minStep"] <= line["_step"] < asked["maxStep"]]
            assert len(rows) <= asked["pageSize"] < 2**31
            return {"history": [json.dumps(row) for row in rows]}
        last = max((line["_step"] for line in lines), default=-1)
        return {**self._attributes(name), "historyKeys": {"lastStep": last}}
