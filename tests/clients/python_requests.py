"""requests. Honours HTTP_PROXY, HTTPS_PROXY and REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE)."""

import sys

import requests

with requests.Session() as session:
    for method, body in [("GET", None), ("POST", {"n": 1})]:
        answer = session.request(method, sys.argv[1], json=body, timeout=20)
        print(method, answer.status_code, answer.text[:200])
