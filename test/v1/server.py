"""A version 1 server as they are in the field, on pyzmq. It shares no code with packages/ on purpose."""

import argparse
import json
import signal
import sys
import time

import zmq


def crash(message):
    print(message, file=sys.stderr)
    sys.exit(9)


def data_of(intent):
    try:
        parsed = json.loads(intent)
    except ValueError:
        return intent
    return parsed.get("data", "") if isinstance(parsed, dict) and "skill" in parsed else intent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xsub", required=True)
    parser.add_argument("--xpub", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--fail", help='answers with status "error" and this text instead')
    options = parser.parse_args()

    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.LINGER, 1000)
    publisher.connect(options.xsub)
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.connect(options.xpub)
    subscriber.setsockopt_string(zmq.SUBSCRIBE, options.topic)

    stopping = False

    def stop(_signal, _frame):
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    time.sleep(0.3)
    print("READY", flush=True)

    while not stopping:
        if subscriber.poll(100) == 0:
            continue
        frames = subscriber.recv_multipart()
        if len(frames) != 2:
            crash(f"expected 2 frames, got {len(frames)}")
        # ZeroMQ matches prefixes; only the exact topic is ours.
        if frames[0].decode() != options.topic:
            continue
        try:
            request = json.loads(frames[1])
        except ValueError as error:
            crash(f"a request that is no JSON: {error}")
        for field in ("request_id", "reply_to", "intent"):
            if not isinstance(request.get(field), str):
                crash(f"{field} is not a string")
        if not isinstance(request.get("timestamp"), (int, float)):
            crash("timestamp is not a number")
        response = {
            "request_id": request["request_id"],
            "status": "success" if options.fail is None else "error",
            "content": f"echo: {data_of(request['intent'])}" if options.fail is None else "",
            "error": options.fail or "",
            "timestamp": time.time(),
        }
        publisher.send_multipart([request["reply_to"].encode(), json.dumps(response).encode()])

    publisher.close()
    subscriber.close()
    context.term()


if __name__ == "__main__":
    main()
