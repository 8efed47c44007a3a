"""A gRPC client of any server that has reflection: messages and methods come from what the server says of itself."""

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

CALL_SECONDS_MAX = 20


class Reflected:
    """`package` of the server at the other end of `channel`. `r.Append(input=…)` calls, `r.types.AppendInput` makes."""

    def __init__(self, channel, package="s2.v1alpha", services=None):
        self.channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        self.services = list(database.get_services())
        self.pool = descriptor_pool.DescriptorPool(database)
        self.package = package
        self.types = Types(self)
        names = services or [name for name in self.services if name.startswith(package + ".")]
        self.methods = {method.name: method for name in names for method in self.pool.FindServiceByName(name).methods}

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"{self.package}.{name}"))

    def with_metadata(self, *metadata):
        return Caller(self, metadata)

    def __getattr__(self, name):
        return getattr(Caller(self, ()), name)


class Types:
    def __init__(self, reflected):
        self.reflected = reflected

    def __getattr__(self, name):
        return self.reflected.message(name)


class Caller:
    """Calls methods by their names, with the same metadata each time."""

    def __init__(self, reflected, metadata, seconds_max=CALL_SECONDS_MAX):
        self.reflected, self.metadata, self.seconds_max = reflected, metadata, seconds_max
        self.types = reflected.types

    def within(self, seconds):
        """The same with another deadline."""
        return Caller(self.reflected, self.metadata, seconds)

    def call(self, name, requests):
        method = self.reflected.methods[name]
        answer = message_factory.GetMessageClass(method.output_type)
        kind = ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
        path = f"/{method.containing_service.full_name}/{name}"
        stub = getattr(self.reflected.channel, kind)(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
        )
        return stub(requests, timeout=self.seconds_max, metadata=self.metadata)

    def __getattr__(self, name):
        method = self.reflected.methods[name]
        if method.client_streaming:
            return lambda requests: self.call(name, requests)
        make = message_factory.GetMessageClass(method.input_type)
        return lambda **fields: self.call(name, make(**fields))


def plain(target, **arguments):
    """A channel in clear text to `http://host:port`."""
    options = [("grpc.max_receive_message_length", 8 << 20)]
    return grpc.insecure_channel(target.removeprefix("http://"), options=options, **arguments)


def detail(error, reflected):
    """The `ErrorDetail` of a call that failed."""
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = message_factory.GetMessageClass(STATUS_POOL.FindMessageTypeByName("google.rpc.Status")).FromString(raw)
    assert status.code == error.code().value[0] and status.message == error.details()
    (any_detail,) = status.details
    assert any_detail.type_url == "type.googleapis.com/s2.v1alpha.ErrorDetail"
    return reflected.types.ErrorDetail.FromString(any_detail.value)


def status_pool():
    from google.protobuf import any_pb2, descriptor_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="status.proto", package="google.rpc", syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")
    message = file.message_type.add(name="Status")
    kinds = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="code", number=1, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="message", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    message.field.add(
        name="details", number=3, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=".google.protobuf.Any"
    )
    pool.Add(file)
    return pool


STATUS_POOL = status_pool()
