"""Authlib as an authorization server on a free port of 127.0.0.1, with the registrations of a file of JSON.

Usage: authlib_server.py FILE. Prints "ready " and what a client has to know as JSON; ends with its standard input.
"""

import json
import os
import sys
import threading
import time

from authlib.common.security import generate_token
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants, list_to_scope, scope_to_list
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from flask import Flask, jsonify
from joserfc.jwk import KeySet, OctKey
from werkzeug.serving import make_server

# What Authlib calls `client_secret_jwt` and `private_key_jwt`, which differ in the key alone.
CLIENT_ASSERTION = "client_assertion_jwt"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = ["read", "write"]


class Client(ClientMixin):
    """A registration of RFC 7591."""

    def __init__(self, metadata):
        self.metadata = metadata

    def get_client_id(self):
        return self.metadata["client_id"]

    client_id = property(get_client_id)

    def get_allowed_scope(self, scope):
        return list_to_scope([one for one in scope_to_list(scope or "") if one in self.metadata["scope"].split()])

    def check_client_secret(self, client_secret):
        return client_secret == self.metadata["client_secret"]

    def check_endpoint_auth_method(self, method, endpoint):
        registered = self.metadata["token_endpoint_auth_method"]
        return method == (CLIENT_ASSERTION if registered.endswith("_jwt") else registered)

    def check_grant_type(self, grant_type):
        return grant_type in self.metadata["grant_types"]

    def keys(self):
        """What its assertions are signed with."""
        if "jwks" in self.metadata:
            return KeySet.import_key_set(self.metadata["jwks"])
        return OctKey.import_key(self.metadata["client_secret"])


class Issuer(Client):
    """Whose assertions are grants: it is the client as well (RFC 7523, section 3, item 1)."""

    def __init__(self, issuer):
        super().__init__({
            "client_id": issuer["issuer"], "scope": "read", "grant_types": [JWT_BEARER], "jwks": issuer["jwks"],
        })


class Token(TokenMixin):
    """A token that was issued."""

    def __init__(self, token, client, user):
        self.token, self.client, self.user = token, client, user
        self.issued_at, self.revoked = time.time(), False

    def check_client(self, client):
        return client.get_client_id() == self.client.get_client_id()

    def get_scope(self):
        return self.token.get("scope") or ""

    def get_expires_in(self):
        return self.token["expires_in"]

    def is_expired(self):
        return time.time() > self.issued_at + self.get_expires_in()

    def is_revoked(self):
        return self.revoked

    def get_user(self):
        return self.user

    def get_client(self):
        return self.client


with open(sys.argv[1], encoding="utf-8") as file:
    GIVEN = json.load(file)
CLIENTS = {metadata["client_id"]: Client(metadata) for metadata in GIVEN["clients"]}
ISSUERS = {issuer["issuer"]: Issuer(issuer) for issuer in GIVEN["issuers"]}
TOKENS = []
USED = set()
LOCK = threading.Lock()

app = Flask(__name__)
app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
app.config["OAUTH2_SCOPES_SUPPORTED"] = SCOPES
app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": 3600, "password": 3600, JWT_BEARER: 3600}
# Clear text, on loopback alone.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"


def audiences():
    return [ISSUER, ISSUER + "/token"]


def find(name, value):
    return next((token for token in TOKENS if token.token.get(name) == value), None)


class ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", CLIENT_ASSERTION]


class Password(grants.ResourceOwnerPasswordCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = [*ClientCredentials.TOKEN_ENDPOINT_AUTH_METHODS, "none"]

    def authenticate_user(self, username, password):
        user = GIVEN["user"]
        return username if (username, password) == (user["username"], user["password"]) else None


class Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = Password.TOKEN_ENDPOINT_AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        token = find("refresh_token", refresh_token)
        return token if token and not token.is_revoked() else None

    def authenticate_user(self, refresh_token):
        return refresh_token.get_user()

    def revoke_old_credential(self, refresh_token):
        refresh_token.revoked = True


class Assertion(JWTBearerGrant):
    def resolve_issuer_client(self, issuer):
        return ISSUERS.get(issuer)

    def resolve_client_public_key(self, client):
        return client.keys()

    def get_audiences(self):
        return audiences()

    def authenticate_user(self, subject):
        return subject if any(issuer["subject"] == subject for issuer in GIVEN["issuers"]) else None

    def has_granted_permission(self, client, user):
        return True


class ClientAssertion(JWTBearerClientAssertion):
    """RFC 7523, section 2.2."""

    CLIENT_AUTH_METHOD = CLIENT_ASSERTION

    def get_audiences(self):
        return audiences()

    def validate_jti(self, claims, jti):
        with LOCK:
            unused = (claims["sub"], jti) not in USED
            USED.add((claims["sub"], jti))
        return unused

    def resolve_client_public_key(self, client):
        return client.keys()


class Introspection(IntrospectionEndpoint):
    def query_token(self, token_string, token_type_hint):
        return find("access_token", token_string)

    def check_permission(self, token, client, request):
        return client.client_id == "resource-server"

    def introspect_token(self, token):
        told = {
            "active": True,
            "client_id": token.client.client_id,
            "scope": token.get_scope(),
            "iss": ISSUER,
            "exp": int(token.issued_at + token.get_expires_in()),
        }
        return {**told, "sub": token.user} if token.user else told


def save_token(token, request):
    TOKENS.append(Token(token, request.client, request.user))


def first_refresh_tokens():
    """What a browser would have brought each client of the refresh token grant."""
    told = {}
    for client_id, client in CLIENTS.items():
        if client.check_grant_type("refresh_token"):
            told[client_id] = generate_token(48)
            token = {"refresh_token": told[client_id], "scope": "read", "expires_in": 3600}
            TOKENS.append(Token(token, client, GIVEN["user"]["username"]))
    return told


server = AuthorizationServer(app, query_client=CLIENTS.get, save_token=save_token)
server.register_client_auth_method(CLIENT_ASSERTION, ClientAssertion())
for grant in (ClientCredentials, Password, Refresh, Assertion):
    server.register_grant(grant)
server.register_endpoint(Introspection)


@app.post("/token")
def token():
    return server.create_token_response()


@app.post("/introspect")
def introspect():
    return server.create_endpoint_response("introspection")


@app.get("/.well-known/oauth-authorization-server")
def metadata():
    told = AuthorizationServerMetadata({
        "issuer": ISSUER,
        "token_endpoint": ISSUER + "/token",
        "introspection_endpoint": ISSUER + "/introspect",
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["HS256", "RS256", "ES256"],
        "grant_types_supported": ["client_credentials", "password", "refresh_token", JWT_BEARER],
        "response_types_supported": [],
        "scopes_supported": SCOPES,
    })
    return jsonify(told)


listener = make_server("127.0.0.1", 0, app, threaded=True)
ISSUER = f"http://127.0.0.1:{listener.server_port}"
threading.Thread(target=listener.serve_forever, daemon=True).start()
print("ready " + json.dumps({
    "issuer": ISSUER,
    "token_endpoint": ISSUER + "/token",
    "introspection_endpoint": ISSUER + "/introspect",
    "refresh_tokens": first_refresh_tokens(),
}), flush=True)
sys.stdin.read()
