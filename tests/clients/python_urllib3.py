"""urllib3. Reads no proxy from the environment: the program names it. Honours SSL_CERT_FILE, as OpenSSL does."""

import os
import sys

import urllib3

proxy = os.environ.get("HTTP_PROXY")
pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
for method, body in [("GET", None), ("POST", {"n": 1})]:
    answer = pool.request(method, sys.argv[1], json=body, timeout=20, retries=False)
    print(method, answer.status, answer.data.decode()[:200])
