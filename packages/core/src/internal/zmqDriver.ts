/**
 * zeromq.js as `ZmqSocket` needs it: options, sends that wait for room, and a close that cannot throw.
 */
import * as Duration from "effect/Duration"
import * as Zmq from "zeromq"
import type { Options } from "../ZmqSocket.ts"

export const maxMessageBytes = 256 * 1024 * 1024

const defaultHighWaterMark = 1000
const longestPauseMs = 16

/** Options that every socket type has, in ZeroMQ's units: milliseconds, and seconds for TCP keepalive. */
export const commonOptions = (options: Options) => {
  const heartbeat = options.heartbeat === undefined ? 0 : Duration.toMillis(options.heartbeat)
  return {
    // Only where it is asked for: with it, a name is resolved to IPv6 first and nothing else is tried.
    ipv6: [...options.bind ?? [], ...options.connect ?? []].some((address) => address.includes("[")),
    linger: Duration.toMillis(options.linger ?? "1 second"),
    maxMessageSize: options.maxMessageBytes ?? maxMessageBytes,
    reconnectInterval: 10,
    reconnectMaxInterval: 1000,
    tcpKeepalive: 1,
    tcpKeepaliveIdle: 10,
    tcpKeepaliveInterval: 2,
    tcpKeepaliveCount: 5,
    heartbeatInterval: heartbeat,
    heartbeatTimeout: heartbeat * 4,
    heartbeatTimeToLive: heartbeat * 4
  }
}

export type CommonOptions = ReturnType<typeof commonOptions>

const outgoing = (options: Options) => ({
  sendHighWaterMark: options.sendHighWaterMark ?? defaultHighWaterMark
})

const incoming = (options: Options) => ({
  receiveHighWaterMark: options.receiveHighWaterMark ?? defaultHighWaterMark
})

export const publisher = (options: Options) => (common: CommonOptions) =>
  new Zmq.Publisher({ ...common, ...outgoing(options), noDrop: true })

export const xpublisher = (options: Options) => (common: CommonOptions) =>
  new Zmq.XPublisher({ ...common, ...outgoing(options), ...incoming(options), noDrop: true })

export const subscriber = (options: Options) => (common: CommonOptions) =>
  new Zmq.Subscriber({ ...common, ...incoming(options) })

export const xsubscriber = (options: Options) => (common: CommonOptions) =>
  new Zmq.XSubscriber({ ...common, ...outgoing(options), ...incoming(options) })

/** Closes a socket, also one that is still binding. Its pending receive is rejected. */
export const close = (socket: Zmq.Socket): void => {
  try {
    socket.close()
  } catch {
    return
  }
}

const isFull = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "EAGAIN"

export interface Attempt {
  readonly done: Promise<void>
  /** Gives up waiting for room; resolves when the socket is free for the next send. */
  readonly cancel: () => Promise<void>
}

/**
 * Sends one message. A PUB socket with `noDrop` reports a full queue as EAGAIN at once and never tells when there is
 * room, so it is asked again after a pause that grows from 1 to 16 ms.
 */
export const send = (
  socket: Zmq.Publisher | Zmq.XPublisher | Zmq.XSubscriber,
  frames: ReadonlyArray<Uint8Array>,
  timeoutMs: number
): Attempt => {
  const state = { isCancelled: false }
  let wake: () => void = () => {}
  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  const run = async (): Promise<void> => {
    let deadline: number | undefined
    let pauseMs = 1
    while (!state.isCancelled) {
      try {
        return await socket.send([...frames])
      } catch (cause) {
        deadline ??= performance.now() + timeoutMs
        if (!isFull(cause) || performance.now() >= deadline) {
          throw cause
        }
      }
      await pause(pauseMs)
      pauseMs = Math.min(pauseMs * 2, longestPauseMs)
    }
  }
  const done = run()
  return {
    done,
    cancel: () => {
      state.isCancelled = true
      wake()
      return done.catch(() => undefined)
    }
  }
}
