#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for snapshot.debian.org: its archive of any date is the one that this machine has.

Usage: snapshot_server.py debian=URL debian-security=URL

Prints its port, and then the date and archive of each request.
"""

import http.server
import re
import sys

ARCHIVES = dict(argument.split("=", 1) for argument in sys.argv[1:])


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = re.fullmatch(r"/archive/([^/]+)/(\d{8}T\d{6}Z)/(.+)", self.path)
        if found is None or found[1] not in ARCHIVES:
            self.send_error(404)
            return
        print(found[2], found[1], flush=True)
        self.send_response(302)
        self.send_header("Location", f"{ARCHIVES[found[1]].rstrip('/')}/{found[3]}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
