"""A mail server for one test: STARTTLS or TLS from the start, a user, and a line of JSON on standard output for each mail."""

import json
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP

CERT, KEY, PORT, MODE = sys.argv[1:5]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode()
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": text,
            "tls": session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
        }
        print(json.dumps(mail), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=data.password == b"secret", auth_data=data)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(CERT, KEY)


class TlsController(Controller):
    def factory(self):
        starttls = {"tls_context": context, "require_starttls": True}
        always = {"auth_require_tls": False}
        return SMTP(
            self.handler,
            authenticator=authenticate,
            auth_required=True,
            **(always if MODE == "always" else starttls),
        )


controller = TlsController(
    Handler(),
    hostname="127.0.0.1",
    port=int(PORT),
    ssl_context=context if MODE == "always" else None,
)
controller.start()
print(f"port {controller.server.sockets[0].getsockname()[1]}", flush=True)
while True:
    time.sleep(60)
