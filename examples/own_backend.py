"""A backend of one's own over a toy HTTP API (below), which knows Roman numerals and often errs.

On the command line: reason solve "Write 42 in Roman numerals" \
    --backend examples/own_backend.py:ToyBackend --strategy self-consistency
"""

import json
import re
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from anyio import to_thread

from reasoning import TextBackend, solve_sync


class ToyApi(BaseHTTPRequestHandler):  # POST {"prompt", "seed"} gives {"text"}
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        left, found = int(re.findall(r"\d+", asked["prompt"])[0]), ""
        for value, letters in zip(*(
            (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
            "M CM D CD C XC L XL X IX V IV I".split(),
        )):
            found, left = found + letters * (left // value), left % value
        text = found[:-1] if asked["seed"] % 3 == 0 else found
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"text": f"It is \\boxed{{{text}}}"}).encode())

    def log_message(self, *_: object) -> None: ...


class ToyBackend(TextBackend):
    def __init__(self, url: str | None = None) -> None:
        super().__init__(name="toy")
        self.url = url

    async def start(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), ToyApi)
        threading.Thread(target=self.server.serve_forever).start()
        self.url = self.url or f"http://127.0.0.1:{self.server.server_port}"

    async def stop(self) -> None:
        await to_thread.run_sync(self.server.shutdown)
        self.server.server_close()

    async def write(self, messages, sampling, *, most):
        body = json.dumps({"prompt": messages[-1]["content"], "seed": sampling.seed}).encode()
        request = urllib.request.Request(self.url, body)
        reply = await to_thread.run_sync(lambda: urllib.request.urlopen(request).read())
        yield json.loads(reply)["text"]


if __name__ == "__main__":
    solution = solve_sync("Write 42 in Roman numerals", backend=ToyBackend(), strategy="self-consistency")
    print(solution.answer, solution.votes)
