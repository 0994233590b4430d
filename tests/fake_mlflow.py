"""An MLflow server of a hundred lines in a thread, which can be down, slow, mute, or swallow its answers.

It speaks as much of MLflow's REST interface as rlseq uses, and like a server on files it keeps what it is told twice.
"""

import contextlib
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class FakeMlflow:
    """`uri` is where it listens, once `up()`. Its troubles: `delay` seconds before an answer, requests to `swallow`."""

    def __init__(self, home):
        self.home, self.runs, self.experiments, self.requests = home, {}, {}, 0
        self.delay, self.swallow, self.server = 0.0, [], None
        self.lock, self.port = threading.Lock(), 0

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def up(self):
        """Listen, on the same port as before."""
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        server.daemon_threads, self.server, self.port = True, server, server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def down(self):
        """Refuse connections, as a dead server does."""
        self.server.shutdown()
        self.server.server_close()

    @contextlib.contextmanager
    def running(self):
        """Up for a while."""
        self.up()
        try:
            yield self
        finally:
            with contextlib.suppress(Exception):
                self.down()

    def values(self, run_id):
        """{name: [step, ...]} as it was told, doubles and all."""
        found = {}
        for one in self.runs[run_id]["metrics"]:
            found.setdefault(one["key"], []).append(int(one.get("step", 0)))
        return found

    def told(self, name):
        """How many values of a metric all runs were told."""
        return sum(len(self.values(run).get(name, [])) for run in self.runs)

    def answer(self, what, asked):
        """The answer to a request; None where it is not known."""
        if what == "experiments/get-by-name":
            return {"experiment": self.experiments[asked["experiment_name"]]}
        if what == "experiments/create":
            self.experiments[asked["name"]] = {
                "experiment_id": "1", "name": asked["name"], "artifact_location": self.home.as_uri(),
                "lifecycle_stage": "active"}
            return {"experiment_id": "1"}
        if what == "runs/create":
            name = uuid.uuid4().hex
            self.runs[name] = {"info": {
                "run_id": name, "run_uuid": name, "experiment_id": "1", "status": "RUNNING", "run_name": asked.get("run_name"),
                "start_time": asked["start_time"], "artifact_uri": (self.home / name).as_uri(), "lifecycle_stage": "active"},
                "tags": {one["key"]: one["value"] for one in asked["tags"]}, "params": {}, "metrics": []}
            return {"run": self.said(name)}
        if what == "runs/search":
            wanted = asked["filter"].split("'")[1]
            return {"runs": [self.said(name) for name, run in self.runs.items() if wanted in run["tags"].values()]}
        if what == "logged-models/search":
            return {"models": []}
        run = self.runs[asked["run_id"]]
        if what == "runs/get":
            return {"run": self.said(asked["run_id"])}
        if what == "runs/log-batch":
            run["metrics"] += asked.get("metrics", [])
            run["params"] |= {one["key"]: one["value"] for one in asked.get("params", [])}
        if what == "runs/set-tag":
            run["tags"][asked["key"]] = asked["value"]
        if what == "runs/update":
            run["info"] |= {"status": asked["status"]}
            return {"run_info": run["info"]}
        if what == "metrics/get-history":
            return {"metrics": [one for one in run["metrics"] if one["key"] == asked["metric_key"]]}
        return {}

    def said(self, name):
        run, last = self.runs[name], {}
        for one in run["metrics"]:
            last[one["key"]] = one
        return {"info": run["info"], "data": {
            "metrics": list(last.values()), **{kind: [{"key": key, "value": value} for key, value in run[kind].items()]
                                               for kind in ("tags", "params")}}}


def _handler(fake):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply({key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()})

        def do_POST(self):
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, asked):
            time.sleep(fake.delay)
            what = urlsplit(self.path).path.partition("mlflow/")[2]
            try:
                with fake.lock:
                    fake.requests += 1
                    status, said = 200, json.dumps(fake.answer(what, asked)) if what else "hello"
            except KeyError as error:
                status = 404
                said = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {error} in {what} {asked}"})
            if what in fake.swallow:
                fake.swallow.remove(what)
                self.connection.close()                    # done, but the answer is lost
                return
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said.encode())))
                self.end_headers()
                self.wfile.write(said.encode())

        def log_message(self, *words):
            pass
    return Handler
