"""A host that speaks HTTP over TLS at ADDRESS@PORT, proves who it is by a file with key and certificate, answers
every request with "fine", and writes down which authorization it was shown.
"""

import http.server
import ssl
import sys


class Request(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("authorization:", self.headers["Authorization"], flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"fine\n")

    def log_message(self, *_):
        pass


place, certificate = sys.argv[1:]
address, port = place.split("@")
server = http.server.ThreadingHTTPServer((address, int(port)), Request)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
