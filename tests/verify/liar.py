"""A proxy that passes HTTP/1.1 on to a server and, now and then, lies to the client about an append.

  drop       the append is not passed on; the client gets an ack that looks right
  duplicate  the append is passed on twice; the client gets the second ack
  stale      a check-tail is answered with the tail of a second before
"""

import http.client
import http.server
import threading
import time

import raw_http

LIES = ["drop", "duplicate", "stale"]


class Liar:
    """Listens on a free port of the loopback until it is closed. Lies from the `after`-th request of its kind on, `times` times."""

    def __init__(self, target, lie, after=30, times=1):
        assert lie in LIES
        self.upstream = raw_http.host_and_port(target)
        self.lie = lie
        self.lock = threading.Lock()
        self.countdown = after
        self.times = times
        self.old_tails = {}
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY
                self.onward = http.client.HTTPConnection(*liar.upstream, timeout=30)

            def finish(self):
                self.onward.close()
                super().finish()

            def do_any(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, headers, body = liar.answer(self.onward, self.command, self.path, dict(self.headers), body)
                self.send_response_only(status)
                self.send_header("content-type", headers.get("content-type", "application/json"))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_any

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # A connection of either side that breaks is not worth a word.
        self.server.handle_error = lambda *_: None
        self.target = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, onward, method, path, headers, body):
        headers = {name: value for name, value in headers.items() if name.lower() != "host"}

        def pass_on():
            answer = raw_http.request_on(onward, method, path, headers, body)
            return answer.status, answer.headers, answer.body

        is_append = method == "POST" and path.endswith("/records")
        is_tail = method == "GET" and path.endswith("/records/tail")
        if self.lie == "stale" and is_tail:
            truth = pass_on()
            with self.lock:
                tails = self.old_tails.setdefault(path, [])
                tails.append((time.monotonic(), truth))
                old = [answer for at, answer in tails if at < time.monotonic() - 1 and answer[2] != truth[2]]
            return old[-1] if old and self.lies_now() else truth
        if is_append and self.lie in ("drop", "duplicate"):
            fields = raw_http.message(body)
            # Conditions would make a lie into a refusal.
            if not {2, 3} & set(fields) and self.lies_now():
                if self.lie == "duplicate":
                    pass_on()
                    return pass_on()
                tail = raw_http.request_on(onward, "GET", path + "/tail", headers).json()["tail"]
                start = raw_http.number(1, tail["seq_num"]) + raw_http.number(2, tail["timestamp"])
                end = raw_http.number(1, tail["seq_num"] + len(fields[1])) + raw_http.number(2, tail["timestamp"])
                ack = raw_http.block(1, start) + raw_http.block(2, end) + raw_http.block(3, end)
                return 200, {"content-type": "application/protobuf"}, ack
        return pass_on()

    def lies_now(self):
        with self.lock:
            self.countdown -= 1
            if self.countdown >= 0 or self.times == 0:
                return False
            self.times -= 1
            return True
