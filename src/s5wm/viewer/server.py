"""Serves a page on the loopback interface of this machine."""

import http.server
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


def serve(page: str, *, port: int, opens: bool, log: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; port 0: any free port.  Raises ``OSError`` if the port is taken."""
    body = page.encode("utf-8")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The page at /, nothing elsewhere, and nothing to a page of another host that resolves to this one."""
            if self.headers.get("Host") not in {f"{name}:{server.server_port}" for name in NAMES}:
                self.send_error(403)
                return
            if self.path != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the browser went away
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests."""

    with http.server.ThreadingHTTPServer((HOST, port), Handler) as server:
        address = f"http://{HOST}:{server.server_port}/"
        log(f"the page is at {address} until Ctrl-C")
        if opens:  # a browser in this terminal waits for the page, so it must not be waited for
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log("closed")
