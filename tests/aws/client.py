"""The AWS SDK for Python as applications use it, with credentials that are worth nothing. Argument: the endpoint's URL.

Honours HTTPS_PROXY and AWS_CA_BUNDLE. Prints what it got, and fails where that is not what it put.
"""

import io
import sys

import boto3
from botocore.config import Config

s3 = boto3.client(
    "s3",
    endpoint_url=sys.argv[1],
    region_name="us-east-1",
    aws_access_key_id="AKIAWORTHNOTHING",
    aws_secret_access_key="worth-nothing",
    aws_session_token="worth-nothing-either",
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=10, read_timeout=60),
)
objects = {
    "plain": b"hello",
    "a folder/with space + plus/%2F é ~": b"odd",
    "empty": b"",
    "64KiB": b"x" * 65536,
    "large": b"0123456789abcdef" * 65536 * 10,
}
for key, body in objects.items():
    s3.put_object(Bucket="bucket", Key=key, Body=body, ContentType="text/plain", Metadata={"note": "two  spaces"})
s3.upload_fileobj(io.BytesIO(objects["large"]), "bucket", "multipart or not")
for key, body in {**objects, "multipart or not": objects["large"]}.items():
    got = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    assert got == body, f"{key}: {len(got)} bytes of {len(body)}"
listed = s3.list_objects_v2(Bucket="bucket", Prefix="a folder/", Delimiter="/")
print(listed["KeyCount"], listed["ResponseMetadata"]["HTTPStatusCode"])
