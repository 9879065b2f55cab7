"""A gRPC server of generic handlers, without protoc: messages are bytes, and each answer tells the caller's metadata.

Usage: grpc_server.py CERTIFICATE KEY. Serves TLS on a free port of 127.0.0.1, prints the port, ends with standard input.
"""

import json
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Event()


def seen(context):
    """What the caller sent along, as JSON: [[name, value], ...]."""
    return json.dumps([[name, str(value)] for name, value in context.invocation_metadata()]).encode()


def unary(request, context):
    context.set_trailing_metadata([("x-trailer", "unary")])
    return seen(context)


def server_stream(request, context):
    yield seen(context)
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    total = sum(int(request) for request in requests)
    context.set_trailing_metadata([("x-trailer", str(total))])
    return seen(context)


def both_streams(requests, context):
    yield seen(context)
    for request in requests:
        yield request.upper()


def failing(request, context):
    context.set_trailing_metadata([("x-trailer", "failing"), ("x-saw", seen(context))])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ä")


def endless(request, context):
    cancelled.clear()
    context.add_callback(cancelled.set)
    yield seen(context)
    cancelled.wait(20)


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(10) else b"no"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}

certificate, key = (open(path, "rb").read() for path in sys.argv[1:3])
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("matrix.Echo", METHODS)])
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
