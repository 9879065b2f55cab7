"""Whether recorded requests are signed as AWS wants it: botocore computes every signature anew.

Standard input: {"region": ..., "service": ..., "keys": {ID: [SECRET, TOKEN or null]}, "requests": [...]}, each request with
method, scheme, authority, target, headers (a list of pairs, as they arrived) and body (base64). Standard output: a JSON list,
what each request's body said before it was framed (base64). Exit code 1: the first request that is wrong, and why.
"""

import base64
import hashlib
import hmac
import json
import sys
from urllib.parse import quote, unquote_plus, unquote_to_bytes, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

EMPTY = hashlib.sha256(b"").hexdigest()


def wrong(request, why):
    print(f"{request['method']} {request['target']}: {why}\n{json.dumps(request['headers'], indent=1)}", file=sys.stderr)
    sys.exit(1)


def normal_query(query):
    """As the service reads a query, which botocore takes for granted in what it signs itself."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    part = lambda text: quote(unquote_plus(text, errors="surrogateescape").encode(errors="surrogateescape"), safe="-_.~")
    return "&".join(f"{part(name)}={part(value)}" for name, _, value in pairs)


def check(request, world):
    headers, body = {}, base64.b64decode(request["body"])
    for name, value in request["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    authorization = headers.get("authorization", [])
    if len(authorization) != 1 or not authorization[0].startswith("AWS4-HMAC-SHA256 "):
        wrong(request, "no Authorization of Signature Version 4, or more than one")
    parts = dict(part.split("=", 1) for part in authorization[0].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    key, date, region, service, end = parts["Credential"].split("/")
    signed = parts["SignedHeaders"].split(";")
    stamps = headers.get("x-amz-date", [])
    if len(stamps) != 1 or stamps[0][:8] != date or end != "aws4_request":
        wrong(request, "the date or the scope")
    if (region, service) != (world["region"], world["service"]):
        wrong(request, "another region or service")
    if key not in world["keys"]:
        wrong(request, f"an unknown key {key}")
    secret, token = world["keys"][key]
    if headers.get("x-amz-security-token", []) != ([token] if token else []):
        wrong(request, "not the session token that belongs to the key")
    must = [name for name in headers if name.startswith("x-amz-") or name == "content-type"] + ["host"]
    if missing := [name for name in must if name not in signed]:
        wrong(request, f"not signed: {missing}")

    # What was said of the body has to be so.
    said = headers.get("x-amz-content-sha256", [None])[0]
    if said is None and service == "s3":
        wrong(request, "S3 wants x-amz-content-sha256")
    if said not in (None, "UNSIGNED-PAYLOAD") and not said.startswith("STREAMING-"):
        if said != hashlib.sha256(body).hexdigest():
            wrong(request, "x-amz-content-sha256 is not that of the body")

    target = urlsplit(request["target"])
    path = quote(unquote_to_bytes(target.path), safe="/-_.~") if service == "s3" else target.path
    url = f"{request['scheme']}://{request['authority']}{path}?{normal_query(target.query)}"
    again = AWSRequest(method=request["method"], url=url, data=body)
    for name in signed:
        if name == "host":
            again.headers["host"] = request["authority"]
        else:
            for value in headers.get(name) or wrong(request, f"{name} is signed and not there"):
                again.headers.add_header(name, value)
    again.context["timestamp"] = stamps[0]
    again.context["payload_signing_enabled"] = True
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(key, secret, token), service, region)
    canonical = auth.canonical_request(again)
    signature = auth.signature(auth.string_to_sign(again, canonical), again)
    if signature != parts["Signature"]:
        wrong(request, f"the signature is not that of\n{canonical}")
    if said == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
        body = chunks(request, body, signature, secret, stamps[0], f"{date}/{region}/{service}/aws4_request")
        if headers.get("x-amz-decoded-content-length") != [str(len(body))]:
            wrong(request, "x-amz-decoded-content-length")
        if not ",".join(headers.get("content-encoding", [])).startswith("aws-chunked"):
            wrong(request, "content-encoding")
    return base64.b64encode(body).decode()


def chunks(request, body, previous, secret, stamp, scope):
    """S3 API Reference, "Transferring Payload in Multiple Chunks": botocore itself never sends such bodies."""
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    whole = b""
    while True:
        head, _, body = body.partition(b"\r\n")
        size, _, signature = head.decode().partition(";chunk-signature=")
        data, body = body[: int(size, 16)], body[int(size, 16) :]
        if body[:2] != b"\r\n":
            wrong(request, "a chunk without its end")
        body = body[2:]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, previous, EMPTY, hashlib.sha256(data).hexdigest()])
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        if previous != signature:
            wrong(request, f"the signature of the chunk at {len(whole)}")
        whole += data
        if not data:
            if body:
                wrong(request, "more behind the last chunk")
            return whole


world = json.load(sys.stdin)
print(json.dumps([check(request, world) for request in world["requests"]]))
