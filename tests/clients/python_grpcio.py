"""grpcio. Honours https_proxy and http_proxy (always as a tunnel) and GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.

Usage: python_grpcio.py URL. Makes a call of every kind to tests/clients/grpc_server.py; prints for each its name, its
status, a trailer and the metadata that the server saw. `https://`: TLS; `http://`: HTTP/2 in clear text.
"""

import sys
from urllib.parse import urlsplit

import grpc

url = urlsplit(sys.argv[1])
if url.scheme == "https":
    channel = grpc.secure_channel(url.netloc, grpc.ssl_channel_credentials())
else:
    channel = grpc.insecure_channel(url.netloc)
NUMBERS = [b"1", b"2", b"3"]


def method(name, kind):
    return getattr(channel, kind)(f"/matrix.Echo/{name}")


def show(name, call, body):
    print(name, call.code().name, dict(call.trailing_metadata()).get("x-trailer", "-"), body.decode())


answer, call = method("Unary", "unary_unary").with_call(b"", timeout=20)
show("Unary", call, answer)

call = method("ServerStream", "unary_stream")(b"3", timeout=20)
first, *rest = call
assert rest == [b"0", b"1", b"2"], rest
show("ServerStream", call, first)

answer, call = method("ClientStream", "stream_unary").with_call(iter(NUMBERS), timeout=20)
show("ClientStream", call, answer)

call = method("BothStreams", "stream_stream")(iter([b"a", b"b"]), timeout=20)
first, *rest = call
assert rest == [b"A", b"B"], rest
show("BothStreams", call, first)

try:
    method("Failing", "unary_unary")(b"", timeout=20)
except grpc.RpcError as error:
    assert error.details() == "not today: ä", error
    show("Failing", error, dict(error.trailing_metadata())["x-saw"].encode())

call = method("Endless", "unary_stream")(b"", timeout=20)
first = next(call)
call.cancel()
assert method("WasCancelled", "unary_unary")(b"", timeout=20) == b"yes", "the server did not notice the cancellation"
show("Endless", call, first)
