"""A mail server that lets in who has a password (RFC 4954, AUTH PLAIN), and writes down what it was given.

mail_server.py PORT FILE [MAILS]     it adds each mail to MAILS
"""

from __future__ import annotations

import base64
import socketserver
import sys
from pathlib import Path


class Session(socketserver.StreamRequestHandler):
    """One client."""

    def say(self, text: str) -> None:
        """Send one line, or several that the text has."""
        self.wfile.write(text.replace("\n", "\r\n").encode() + b"\r\n")

    def handle(self) -> None:
        """Answer until the client leaves."""
        self.say("220 mail.test")
        for line in self.rfile:
            word, _, rest = line.decode().strip().partition(" ")
            if word == "EHLO":
                self.say("250-mail.test\n250 AUTH PLAIN")
            elif word == "AUTH":
                told = base64.b64decode(rest.split()[-1]).decode().replace("\0", " ")
                Path(sys.argv[2]).write_text(told.strip() + "\n")
                self.say("235 come in")
            elif word == "DATA":
                self.say("354 go on")
                mail = list(iter(self.rfile.readline, b".\r\n"))
                if len(sys.argv) > 3:
                    with Path(sys.argv[3]).open("ab") as file:
                        file.writelines(mail)
                self.say("250 taken")
            else:
                self.say("221 good-bye" if word == "QUIT" else "250 well")


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Session).serve_forever()
