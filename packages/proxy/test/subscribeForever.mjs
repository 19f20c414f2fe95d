import * as Zmq from "zeromq"

const [, , address, topics] = process.argv
const socket = new Zmq.Subscriber({ linger: 0, receiveHighWaterMark: 1, receiveBufferSize: 65_536 })
socket.connect(address)
socket.subscribe(...topics.split(","))
for await (const _ of socket) {
  void _
}
