import * as Zmq from "zeromq"

const [, , address, topic] = process.argv
const socket = new Zmq.Subscriber({ linger: 0, receiveHighWaterMark: 1, receiveBufferSize: 65_536 })
socket.connect(address)
socket.subscribe(topic)
for await (const _ of socket) {
  void _
}
