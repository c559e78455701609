"""A file server on 127.0.0.1 that knows byte ranges, for the tests of what fetches.

usage: range_server.py FOLDER PORT_FILE LOG [--cut BYTES] [--no-range]

Writes its port into PORT_FILE and "PATH START CODE" for every request into LOG. --cut: the first answer for each path
breaks off after BYTES. --no-range: answers every request with the whole file. Ends by itself after a minute.
"""
import argparse
import http.server
import os
import re
import threading

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("port_file")
parser.add_argument("log")
parser.add_argument("--cut", type=int, default=0)
parser.add_argument("--no-range", action="store_true")
options = parser.parse_args()
seen = set()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.split("?")[0].lstrip("/")
        path = os.path.join(options.folder, name)
        if not os.path.isfile(path):
            return self.answer(404, b"", 0)
        with open(path, "rb") as file:
            data = file.read()
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and not options.no_range else 0
        if start and start >= len(data):
            return self.answer(416, b"", start)
        cut = options.cut if options.cut and name not in seen else None
        seen.add(name)
        self.answer(206 if start else 200, data[start:], start, cut, len(data))

    def answer(self, code, body, start, cut=None, total=0):
        with open(options.log, "a") as log:
            log.write(f"{self.path} {start} {code}\n")
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Timer(60, lambda: os._exit(0)).start()
with open(options.port_file + ".new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename(options.port_file + ".new", options.port_file)
server.serve_forever()
