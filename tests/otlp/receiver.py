"""An OTLP receiver that knows nothing of podwitness' own types.

It takes logs, spans and metrics over HTTP and gRPC with the Python project's generated messages, checks each of them
against the protocol and the semantic conventions, and prints what it got as lines of JSON. A line on standard input
changes how it answers from then on (MODES below), so that a test can let it fail in any way.
"""

import bisect
import concurrent.futures
import gzip
import http.server
import json
import socket
import ssl
import struct
import sys
import threading
import time

import frames
import grpc
import zstandard
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SIGNALS = {
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}
GRPC = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}

# Attributes of the semantic conventions that may appear, and what their values are: by their registry.
SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
TEXT, NUMBER, REAL, FLAG = "string_value", "int_value", "double_value", "bool_value"
CONVENTIONS = {
    "service.name": TEXT, "service.namespace": TEXT, "service.instance.id": TEXT, "service.version": TEXT,
    "k8s.namespace.name": TEXT, "k8s.pod.name": TEXT, "k8s.pod.uid": TEXT, "k8s.container.name": TEXT,
    "k8s.node.name": TEXT, "k8s.deployment.name": TEXT, "k8s.replicaset.name": TEXT, "k8s.statefulset.name": TEXT,
    "k8s.daemonset.name": TEXT, "k8s.job.name": TEXT, "k8s.cronjob.name": TEXT, "k8s.cluster.name": TEXT,
    "k8s.container.restart_count": NUMBER,
    "container.id": TEXT, "container.name": TEXT, "container.runtime.name": TEXT,
    "host.name": TEXT, "host.id": TEXT, "os.type": TEXT, "deployment.environment.name": TEXT,
    "process.pid": NUMBER, "process.parent_pid": NUMBER, "process.executable.name": TEXT,
    "process.executable.path": TEXT, "process.exit.code": NUMBER, "process.user.id": NUMBER, "thread.id": NUMBER,
    "network.transport": TEXT, "network.type": TEXT, "network.peer.address": TEXT, "network.peer.port": NUMBER,
    "network.local.address": TEXT, "network.local.port": NUMBER, "server.address": TEXT, "server.port": NUMBER,
    "error.type": TEXT,
}

MODE = {"name": "take", "argument": ""}
OUTPUT = threading.Lock()
HANGING = threading.Event()


def say(**line):
    with OUTPUT:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Wrong(Exception):
    pass


def demand(condition, what):
    if not condition:
        raise Wrong(what)


def value(any_value):
    kind = any_value.WhichOneof("value")
    return kind, getattr(any_value, kind) if kind else None


def attributes(pairs, is_metric=False):
    found = {}
    for pair in pairs:
        demand(pair.key and pair.key not in found, f"attribute {pair.key!r} twice, or without a name")
        kind, content = value(pair.value)
        demand(kind is not None, f"attribute {pair.key} without a value")
        if pair.key in CONVENTIONS:
            demand(kind == CONVENTIONS[pair.key], f"attribute {pair.key} is a {kind}")
        else:
            demand(is_metric or pair.key.startswith("podwitness."), f"attribute {pair.key} is no convention")
        demand(content != "", f"attribute {pair.key} is empty")
        found[pair.key] = content
    return found


def resource_of(group):
    found = attributes(group.resource.attributes)
    demand(found.get("service.name"), "a resource without service.name")
    demand(found.get("os.type") == "linux", "a resource without os.type")
    demand(found.get("host.name"), "a resource without host.name")
    if "k8s.pod.name" in found or "k8s.container.name" in found:
        demand("k8s.namespace.name" in found, "a pod without a namespace")
    demand(group.schema_url == SCHEMA, f"schema {group.schema_url!r}")
    return found


def scope_of(scoped):
    demand(scoped.scope.name == "podwitness" and scoped.scope.version, "another scope")


def plausible(nanoseconds):
    return 1_700_000_000 < nanoseconds / 1e9 < time.time() + 5


def spans(request):
    for group in request.resource_spans:
        resource = resource_of(group)
        for scoped in group.scope_spans:
            scope_of(scoped)
            demand(scoped.spans, "a scope without spans")
            for span in scoped.spans:
                demand(len(span.trace_id) == 16 and any(span.trace_id), "a span without a trace")
                demand(len(span.span_id) == 8 and any(span.span_id), "a span without an id")
                demand(len(span.parent_span_id) in (0, 8), "a parent's id of another length")
                demand(span.parent_span_id != span.span_id, "a span that is its own parent")
                demand(span.name, "a span without a name")
                demand(span.kind in (1, 3), f"a span of kind {span.kind}")
                demand(plausible(span.start_time_unix_nano), f"start {span.start_time_unix_nano}")
                demand(span.end_time_unix_nano >= span.start_time_unix_nano, "a span that ends before it begins")
                demand(span.trace_state.startswith("ot=th:"), f"trace state {span.trace_state!r}")
                found = attributes(span.attributes)
                demand(found.get("podwitness.sampling.decision"), "a span without its sampling")
                demand((span.status.code == 2) == ("error.type" in found), "error.type and status disagree")
                demand(span.status.code == 2 or not span.status.message, "a message without an error")
                for event in span.events:
                    demand(event.name and plausible(event.time_unix_nano), "an event without name or time")
                yield {
                    "name": span.name, "kind": span.kind, "resource": resource, "attributes": found,
                    "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "error": span.status.code == 2, "message": span.status.message, "state": span.trace_state,
                    "events": [{"name": event.name, **attributes(event.attributes)} for event in span.events],
                    "links": [link.span_id.hex() for link in span.links],
                }


def logs(request):
    for group in request.resource_logs:
        resource = resource_of(group)
        for scoped in group.scope_logs:
            scope_of(scoped)
            demand(scoped.log_records, "a scope without logs")
            for record in scoped.log_records:
                demand(record.event_name.startswith("podwitness."), f"event {record.event_name!r}")
                demand(plausible(record.time_unix_nano), f"time {record.time_unix_nano}")
                demand(record.observed_time_unix_nano, "no observed time")
                demand(1 <= record.severity_number <= 24 and record.severity_text, "no severity")
                demand(len(record.trace_id) in (0, 16) and len(record.span_id) in (0, 8), "ids of another length")
                demand(bool(record.trace_id) == bool(record.span_id), "a span without its trace")
                kind, body = value(record.body)
                demand(kind == TEXT and body, "a log without a body")
                yield {
                    "name": record.event_name, "resource": resource, "attributes": attributes(record.attributes),
                    "body": body, "severity": record.severity_text, "time": record.time_unix_nano,
                    "trace": record.trace_id.hex(), "span": record.span_id.hex(),
                }


def exemplars(name, kind, point):
    """Those of a point: spans that had ended, and of a histogram one for a bucket at most, in which something was counted."""
    demand(not point.exemplars or kind != "gauge", f"{name}: an exemplar of a gauge")
    demand(len(point.exemplars) <= 1 or kind == "histogram", f"{name}: exemplars of one count")
    buckets = set()
    for exemplar in point.exemplars:
        demand((len(exemplar.trace_id), len(exemplar.span_id)) == (16, 8), f"{name}: ids of an exemplar")
        demand(plausible(exemplar.time_unix_nano), f"{name}: the time of an exemplar")
        demand(exemplar.time_unix_nano <= point.time_unix_nano, f"{name}: an exemplar from the future")
        value = getattr(exemplar, exemplar.WhichOneof("value"))
        if kind == "histogram":
            bucket = bisect.bisect_left(point.explicit_bounds, value)
            demand(point.bucket_counts[bucket] > 0, f"{name}: an exemplar in an empty bucket")
            demand(bucket not in buckets, f"{name}: two exemplars in a bucket")
            buckets.add(bucket)
        yield {"trace": exemplar.trace_id.hex(), "span": exemplar.span_id.hex(), "value": value}


def metrics(request):
    for group in request.resource_metrics:
        resource = resource_of(group)
        for scoped in group.scope_metrics:
            scope_of(scoped)
            names = set()
            for metric in scoped.metrics:
                demand(metric.name and metric.name not in names, f"metric {metric.name!r} twice in a scope")
                names.add(metric.name)
                demand(metric.description, f"{metric.name} has no description")
                kind = metric.WhichOneof("data")
                demand(kind in ("gauge", "sum", "histogram"), f"{metric.name} is a {kind}")
                data = getattr(metric, kind)
                if kind != "gauge":
                    demand(data.aggregation_temporality == 2, f"{metric.name} is not cumulative")
                demand(data.data_points, f"{metric.name} has no points")
                seen = set()
                for point in data.data_points:
                    found = attributes(point.attributes, True)
                    key = json.dumps(found, sort_keys=True)
                    demand(key not in seen, f"{metric.name}{key} twice")
                    seen.add(key)
                    demand(plausible(point.time_unix_nano), "a point without a time")
                    if kind != "gauge":
                        demand(0 < point.start_time_unix_nano <= point.time_unix_nano, "a point without a start")
                    line = {"name": metric.name, "type": kind, "unit": metric.unit, "resource": resource,
                            "attributes": found, "exemplars": list(exemplars(metric.name, kind, point))}
                    if kind == "histogram":
                        demand(len(point.bucket_counts) == len(point.explicit_bounds) + 1, "buckets and bounds")
                        demand(sum(point.bucket_counts) == point.count, "buckets that don't add up")
                        demand(list(point.explicit_bounds) == sorted(set(point.explicit_bounds)), "bounds in disorder")
                        line.update(count=point.count, sum=point.sum, buckets=list(point.bucket_counts),
                                    bounds=list(point.explicit_bounds))
                    else:
                        number = point.WhichOneof("value")
                        line.update(value=getattr(point, number))
                        if kind == "sum":
                            demand(data.is_monotonic and line["value"] >= 0, f"{metric.name} goes down")
                    yield line


def decompressed(body, encoding):
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        # The frame need not tell how long it will be, but it has to end with the body.
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        body = decompressor.decompress(body)
        demand(decompressor.eof and not decompressor.unused_data, "a frame of zstd that is not all of the body")
        return body
    demand(encoding in (None, "identity"), f"compressed with {encoding}")
    return body


READERS = {"logs": logs, "traces": spans, "metrics": metrics}


def receive(signal, body, headers, encoding=None):
    """Reads and checks a request; says what is in it, and returns how many items that were."""
    request = SIGNALS[signal][0]()
    try:
        body = decompressed(body, encoding)
        request.ParseFromString(body)
        # Unknown fields would be another protocol than this one.
        demand(len(request.SerializeToString()) == len(body), "fields that the protocol doesn't have")
        items = list(READERS[signal](request))
        demand(items, "an empty request")
    except Exception as error:  # noqa: BLE001 - all of it is the test's business
        say(signal=signal, wrong=f"{type(error).__name__}: {error}", request=str(request)[:2000])
        return 0
    say(signal=signal, count=len(items), items=items, headers=headers)
    return len(items)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/x-protobuf")
        for name, content in headers:
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):  # noqa: N802 - the name is the library's
        mode, argument = MODE["name"], MODE["argument"]
        signal = self.path.rsplit("/", 1)[-1]
        length = int(self.headers["Content-Length"])
        if mode == "reset":
            # In the middle of the request, and hard.
            self.rfile.read(min(length, 10))
            say(fault="reset", signal=signal)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if signal not in SIGNALS or self.headers["Content-Type"] != "application/x-protobuf":
            say(wrong=f"{self.path} with {self.headers['Content-Type']}")
            return self.answer(404)
        if mode == "status":
            status, _, retry_after = argument.partition(" ")
            say(fault=f"status {status}", signal=signal)
            return self.answer(int(status), headers=[("Retry-After", retry_after)] if retry_after else [])
        if mode == "garbage":
            say(fault="garbage", signal=signal)
            self.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
            self.close_connection = True
            return None
        if mode == "hang":
            say(fault="hang", signal=signal)
            HANGING.wait()
            self.close_connection = True
            return None
        headers = {name.lower(): content for name, content in self.headers.items()}
        receive(signal, body, headers, headers.get("content-encoding"))
        answer = SIGNALS[signal][1]()
        if mode == "reject":
            name = {"logs": "rejected_log_records", "traces": "rejected_spans", "metrics": "rejected_data_points"}
            setattr(answer.partial_success, name[signal], int(argument))
            answer.partial_success.error_message = "not these"
        if mode == "wordy":
            answer.partial_success.error_message = "x" * int(argument)
        return self.answer(200, answer.SerializeToString())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def export(signal):
    def handle(body, context):
        mode, argument = MODE["name"], MODE["argument"]
        if mode == "status":
            code, _, seconds = argument.partition(" ")
            say(fault=f"status {code}", signal=signal)
            if seconds:
                context.set_trailing_metadata([("grpc-status-details-bin", retry_info(int(code), int(seconds)))])
            status = next(one for one in grpc.StatusCode if one.value[0] == int(code))
            context.abort(status, "as the test wants")
        if mode == "hang":
            say(fault="hang", signal=signal)
            HANGING.wait()
        receive(signal, body, dict(context.invocation_metadata()))
        answer = SIGNALS[signal][1]()
        if mode == "reject":
            name = {"logs": "rejected_log_records", "traces": "rejected_spans", "metrics": "rejected_data_points"}
            setattr(answer.partial_success, name[signal], int(argument))
        if mode == "wordy":
            answer.partial_success.error_message = "x" * int(argument)
        return answer.SerializeToString()

    handler = grpc.unary_unary_rpc_method_handler(handle)
    return grpc.method_handlers_generic_handler(GRPC[signal], {"Export": handler})


def call(path, headers, body):
    """The same for frames that are read by hand; it takes everything that it hears."""
    signal = next((signal for signal, service in GRPC.items() if path == f"/{service}/Export"), None)
    try:
        demand(signal, f"{path} is no method")
        if MODE["name"] == "mute":
            MODE["name"] = "take"
            return say(fault="mute", signal=signal)
        is_compressed, message = frames.message(body)
    except Exception as error:  # noqa: BLE001 - all of it is the test's business
        say(wrong=f"{type(error).__name__}: {error}")
        return b""
    receive(signal, message, headers, headers.get("grpc-encoding") if is_compressed else None)
    return b""


def retry_info(code, seconds):
    """google.rpc.Status with a RetryInfo, by hand: the messages are in a package of their own."""
    info = b"\x0a" + bytes([2, 0x08, seconds])
    url = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(info)]) + info
    return b"\x08" + bytes([code]) + b"\x1a" + bytes([len(detail)]) + detail


def main():
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    port = int(arguments.get("--port", "0"))
    if arguments.get("--protocol", "http") == "frames":
        port = frames.serve(port, call)
    elif arguments.get("--protocol", "http") == "grpc":
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        server.add_generic_rpc_handlers([export(signal) for signal in SIGNALS])
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
    else:
        server = Server(("127.0.0.1", port), Handler)
        if "--certificate" in arguments:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(arguments["--certificate"], arguments["--key"])
            if "--authority" in arguments:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(arguments["--authority"])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
    say(port=port)
    for line in sys.stdin:
        name, _, argument = line.strip().partition(" ")
        MODE["argument"] = argument
        MODE["name"] = name
        say(mode=name)


# take: as a collector should. reject N: all but N. status CODE [RETRY-AFTER]. reset: in the middle of the request.
# garbage: no HTTP. hang: never. wordy BYTES: takes all, and says much. mute, of frames: one connection falls silent for
# ever, the others don't.
MODES = ("take", "reject", "status", "reset", "garbage", "hang", "wordy", "mute")

if __name__ == "__main__":
    main()
