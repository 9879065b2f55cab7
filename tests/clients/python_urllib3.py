"""urllib3. Reads no proxy from the environment: the program names it. Honours SSL_CERT_FILE, as OpenSSL does."""

import os
import sys

import urllib3

proxy = os.environ.get("HTTP_PROXY")
headers = {"Accept": "*/*"}  # ProxyManager adds it otherwise, PoolManager does not.
pool = urllib3.ProxyManager(proxy, headers=headers) if proxy else urllib3.PoolManager(headers=headers)
for method, body in [("GET", None), ("POST", {"n": 1})]:
    answer = pool.request(method, sys.argv[1], json=body, timeout=20, retries=False)
    print(method, answer.status, answer.data.decode()[:200])
