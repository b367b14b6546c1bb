"""Serves a page on the loopback interface of this machine."""

import http.server
import webbrowser
from collections.abc import Callable

HOST = "127.0.0.1"


def serve(page: str, *, port: int, opens: bool, log: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; port 0: any free port.  Raises ``OSError`` if the port is taken."""
    body = page.encode("utf-8")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The page at /, nothing elsewhere."""
            if self.path != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests."""

    with http.server.ThreadingHTTPServer((HOST, port), Handler) as server:
        address = f"http://{HOST}:{server.server_port}/"
        log(f"the page is at {address} until Ctrl-C")
        if opens:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log("closed")
