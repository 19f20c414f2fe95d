"""A version 1 client as they are in the field, on pyzmq. It shares no code with packages/ on purpose."""

import argparse
import json
import sys
import time
import uuid

import zmq


def frame_of(text, request_id, reply_to):
    if text.startswith("hex:"):
        return bytes.fromhex(text[4:])
    return text.replace("{REQUEST_ID}", request_id).replace("{REPLY_TO}", reply_to).encode()


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xsub", required=True)
    parser.add_argument("--xpub", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--intent", default="")
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument(
        "--raw-frames",
        action="append",
        help="a frame to publish instead of a request, one per flag, the topic among them; "
        "{REQUEST_ID} and {REPLY_TO} are filled in; hex:... is bytes",
    )
    options = parser.parse_args()
    if options.topic is None and options.raw_frames is None:
        parser.error("--topic or --raw-frames is required")

    request_id = uuid.uuid4().hex[:8]
    reply_to = f"AGENT_REPLY_{uuid.uuid4().hex[:8]}"
    intent = options.intent
    if intent.startswith("@"):
        with open(intent[1:], encoding="utf-8") as file:
            intent = file.read()

    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    publisher.setsockopt(zmq.LINGER, 1000)
    publisher.connect(options.xsub)
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.connect(options.xpub)
    subscriber.setsockopt_string(zmq.SUBSCRIBE, reply_to)
    time.sleep(0.5)

    if options.raw_frames is not None:
        publisher.send_multipart([frame_of(text, request_id, reply_to) for text in options.raw_frames])
    else:
        request = {"request_id": request_id, "reply_to": reply_to, "intent": intent, "timestamp": time.time()}
        publisher.send_multipart([options.topic.encode(), json.dumps(request).encode()])

    deadline = time.monotonic() + options.timeout
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or subscriber.poll(left * 1000) == 0:
            print(f"no reply within {options.timeout} s", file=sys.stderr)
            sys.exit(3)
        frames = subscriber.recv_multipart()
        if len(frames) != 2:
            fail(f"expected 2 frames, got {len(frames)}")
        if frames[0].decode() != reply_to:
            fail(f"a message on {frames[0]!r}")
        try:
            response = json.loads(frames[1])
        except ValueError as error:
            fail(f"a reply that is no JSON: {error}")
        if response.get("request_id") != request_id:
            continue
        if response.get("status") not in ("success", "error"):
            fail(f"unknown status {response.get('status')!r}")
        print(json.dumps(response, ensure_ascii=False))
        sys.exit(0 if response["status"] == "success" else 1)


if __name__ == "__main__":
    main()
