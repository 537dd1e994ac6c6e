"""gRPC by hand, as far as one call with one message needs it: Python's gRPC library knows no zstd."""

import socket
import struct
import threading

import h2.config
import h2.connection
import h2.events


def serve(port, call):
    """Listens, and returns the port. `call` gets path, headers and body of each call, and returns a message. If it returns
    None, nothing is ever said on that connection again, which stays open."""
    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=accept, args=(listener, call), daemon=True).start()
    return listener.getsockname()[1]


def accept(listener, call):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=speak, args=(connection, call), daemon=True).start()


def speak(connection, call):
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    requests = {}
    with connection:
        connection.sendall(http.data_to_send())
        while data := connection.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    requests[event.stream_id] = (dict(event.headers), bytearray())
                elif isinstance(event, h2.events.DataReceived):
                    requests[event.stream_id][1].extend(event.data)
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    headers, body = requests.pop(event.stream_id)
                    answer = call(headers[":path"], headers, bytes(body))
                    if answer is None:
                        return fall_silent(connection)
                    http.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    http.send_data(event.stream_id, struct.pack(">BI", 0, len(answer)) + answer)
                    http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            connection.sendall(http.data_to_send())


def fall_silent(connection):
    while connection.recv(65536):
        pass


def message(body):
    """What is in the body: whether it is compressed, and its bytes."""
    is_compressed, length = struct.unpack(">BI", body[:5])
    if length != len(body) - 5:
        raise ValueError(f"a message of {length} bytes in a body of {len(body)}")
    return bool(is_compressed), body[5:]
