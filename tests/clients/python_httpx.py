"""httpx. Honours HTTP_PROXY, HTTPS_PROXY and SSL_CERT_FILE."""

import sys

import httpx

with httpx.Client(timeout=20) as client:
    for method, body in [("GET", None), ("POST", {"n": 1})]:
        answer = client.request(method, sys.argv[1], json=body)
        print(method, answer.status_code, answer.text[:200])
