"""A small server with OpenAI's chat interface, which tests tell what to say."""

import contextlib
import http.server
import json
import threading
import time


def reply(text, *, usage=(7, 3), finish="stop", tops=None):
  """The body of a chat completion.

  Args:
    text: the message's content.
    usage: tokens of the prompt and of the completion.
    finish: why the completion ended.
    tops: [(token, {token: log-prob of an alternative}), ...].
  """
  choice = {
    "index": 0,
    "message": {"role": "assistant", "content": text},
    "finish_reason": finish,
  }
  if tops is not None:
    logps = lambda known: [
      {"token": token, "logprob": logp} for token, logp in known.items()
    ]
    content = [
      {"token": token, "logprob": -0.1, "top_logprobs": logps(known)}
      for token, known in tops
    ]
    choice["logprobs"] = {"content": content}
  prompt, completion = usage
  counted = {"prompt_tokens": prompt, "completion_tokens": completion}
  return json.dumps({"choices": [choice], "usage": counted}).encode()


@contextlib.contextmanager
def serving(answer):
  """Serves on a free port of this computer.

  Args:
    answer: `(number of the request from 0, its JSON) -> body`, or (status,
      headers, body), or (status, headers, parts, seconds before each part).

  Yields:
    (url that ends in /v1, list of (path, headers, JSON) of the requests).
  """
  seen, lock = [], threading.Lock()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      raw = self.rfile.read(int(self.headers["content-length"]))
      request = json.loads(raw)
      with lock:
        number = len(seen)
        seen.append((self.path, dict(self.headers.items()), request))
      given = answer(number, request)
      if isinstance(given, bytes):
        given = (200, {}, given)
      status, headers, body, *wait = given
      parts = body if isinstance(body, list) else [body]
      with contextlib.suppress(OSError):  # the client may have left
        self.send_response(status)
        for name, value in headers.items():
          self.send_header(name, value)
        self.send_header("content-length", str(sum(map(len, parts))))
        self.end_headers()
        for part in parts:
          time.sleep(wait[0] if wait else 0)
          self.wfile.write(part)
          self.wfile.flush()

    def log_message(self, *arguments):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1", seen
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
