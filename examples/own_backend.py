"""A backend of one's own over a toy HTTP API, which writes numbers in binary and often errs.
On the command line: reason solve "Write 42 in binary" --backend examples/own_backend.py:ToyBackend
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import urlopen

from anyio import to_thread

from reasoning import TextBackend, solve_sync


class ToyApi(BaseHTTPRequestHandler):  # POST {"prompt": ..., "seed": ...} gives a text
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = int(asked["prompt"].split()[1]) + (asked["seed"] % 3 == 0)
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(json.dumps(f"It is \\boxed{{{number:b}}}").encode())


class ToyBackend(TextBackend):
    async def start(self):
        self.server = HTTPServer(("127.0.0.1", 0), ToyApi)
        threading.Thread(target=self.server.serve_forever).start()

    async def stop(self):
        await to_thread.run_sync(self.server.shutdown)
        self.server.server_close()

    async def write(self, messages, sampling, *, most):
        body = json.dumps({"prompt": messages[-1]["content"], "seed": sampling.seed}).encode()
        url = f"http://127.0.0.1:{self.server.server_port}"
        yield json.loads(await to_thread.run_sync(lambda: urlopen(url, body).read()))


if __name__ == "__main__":
    print(solve_sync("Write 42 in binary", backend=ToyBackend(), strategy="self-consistency"))
