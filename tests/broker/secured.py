"""A node of Apache Kafka with TLS, SASL, client certificates and ACLs, for the tests; the certificates are made on the spot."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from streams.access import Right

from .apache import Node, apache_kafka, free_ports

PASSWORD = "correct-horse-battery"
ADMINS = ("ann", "bob", "CN=client", "token-user")
RESTRICTED = ("worker", "replay", "alerts", "creator", "nobody", "ungrouped", "fenced")

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{port}},SASL://127.0.0.1:{sasl},MTLS://127.0.0.1:{mtls},CONTROLLER://127.0.0.1:{{controller}}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.both
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_ann="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
    unsecuredLoginStringClaim_sub="broker";
listener.name.sasl.oauthbearer.connections.max.reauth.ms=4000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;{admins}
"""

TOKENS = """
import base64, json, os, time

def part(fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

def token(seconds=60):
    now = int(time.time())
    return part({"alg": "none"}) + "." + part({"sub": "token-user", "iat": now, "exp": now + seconds}) + "."

def good():
    with open(os.environ["TOKENS_FETCHED"], "a") as log:
        log.write(f"{os.getpid()}\\n")
    return token()

def expired():
    return token(-60)

def unreachable():
    raise OSError("no route to the identity provider")
"""
"""Tokens as Kafka's own handler for tests takes them: nobody has signed them."""


@dataclass(frozen=True, slots=True)
class Secured:
    """The plaintext listener of `node` is the administrator's; certificates lie in `folder`."""

    node: Node
    sasl: str
    mtls: str
    folder: Path

    def grant(self, user: str, right: Right) -> None:
        with KafkaAdminClient(bootstrap_servers=self.node.bootstrap) as client:
            assert client.create_acls([_acl(user, right)])["failed"] == []

    def revoke(self, user: str, right: Right) -> None:
        with KafkaAdminClient(bootstrap_servers=self.node.bootstrap) as client:
            client.delete_acls([_acl(user, right)])


def _acl(user: str, right: Right) -> ACL:
    """A name may end in *, for all that begin so."""
    operation, kind, name = right
    pattern = ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL
    resource = ResourcePattern(ResourceType[kind.replace(" ", "_").upper()], name.rstrip("*"), pattern)
    return ACL(f"User:{user}", "*", ACLOperation[operation.upper()], ACLPermissionType.ALLOW, resource)


@contextmanager
def secured_kafka(home: Path, folder: Path) -> Iterator[Secured]:
    certificates, data = folder / "certificates", folder / "node"
    certificates.mkdir()
    data.mkdir()
    make_certificates(certificates)
    (certificates / "tokens_of_test.py").write_text(TOKENS)
    sasl, mtls = free_ports(2)
    admins = ";".join(f"User:{user}" for user in ADMINS)
    login = "org.apache.kafka.common.security"
    extra = PROPERTIES.format(sasl=sasl, mtls=mtls, folder=certificates, login=login, password=PASSWORD, admins=admins)
    users = [f"SCRAM-SHA-512=[name={user},password={PASSWORD}]" for user in ("bob", *RESTRICTED)]
    users.append(f"SCRAM-SHA-256=[name=bob,password={PASSWORD}]")
    formatting = [part for user in users for part in ("--add-scram", user)]
    with apache_kafka(home, data, extra, formatting) as node:
        yield Secured(node, f"127.0.0.1:{sasl}", f"127.0.0.1:{mtls}", certificates)


def make_certificates(folder: Path) -> None:
    """ca and other (authorities), server and client (signed by ca, for 127.0.0.1), client.locked.key (encrypted)."""
    for authority in ("ca", "other"):
        _openssl(folder, "req -x509 -newkey rsa:2048 -nodes -days 2", "-subj", f"/CN={authority}", *_out(authority))
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl(folder, "req -newkey rsa:2048 -nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-in", f"{name}.csr", "-extfile", "names", "-out", f"{name}.pem")
        _openssl(folder, "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2", *signed)
    _openssl(folder, "pkcs8 -topk8 -v2 aes256 -in client.key -out client.locked.key", "-passout", f"pass:{PASSWORD}")
    (folder / "server.both").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())


def _out(name: str) -> Sequence[str]:
    return "-keyout", f"{name}.key", "-out", f"{name}.pem"


def _openssl(folder: Path, words: str, *more: str) -> None:
    subprocess.run(["openssl", *words.split(), *more], cwd=folder, check=True, capture_output=True)


def no_openssl() -> bool:
    return shutil.which("openssl") is None
