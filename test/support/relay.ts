/** A TCP relay on the loopback whose connections can become half-open: they stay, and one direction of them carries nothing. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

/** To what the relay leads, or from it. */
export type Direction = "to" | "from"

export interface Relay {
  /** `tcp://host:port`. */
  readonly address: string
  /** From now on nothing passes in this direction on the connections that there are, and nobody is told. */
  readonly stall: (direction: Direction) => void
  /** From now on so many bytes a second pass at most from the target, on each connection that there is. */
  readonly throttle: (bytesPerSecond: number) => void
  /** Ends the connections that were stalled. */
  readonly reset: () => void
  readonly connections: () => number
}

interface Pair {
  readonly near: Net.Socket
  readonly far: Net.Socket
  isStalled: boolean
}

/** Leads to `target`, of the same form as `address`. */
export const make = (target: string) =>
  Effect.gen(function*() {
    const pairs = new Set<Pair>()
    const port = Number(target.split(":").at(-1))
    const end = ({ far, near }: Pair): void => {
      near.destroy()
      far.destroy()
    }
    const server = Net.createServer((near) => {
      const pair: Pair = { near, far: Net.connect({ host: "127.0.0.1", port, noDelay: true }), isStalled: false }
      pairs.add(pair)
      near.setNoDelay(true)
      for (const socket of [pair.near, pair.far]) {
        socket.on("error", () => end(pair))
        socket.on("close", () => {
          end(pair)
          pairs.delete(pair)
        })
      }
      pair.near.pipe(pair.far)
      pair.far.pipe(pair.near)
    })
    const listening = Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    })
    const relayPort = yield* Effect.acquireRelease(listening, () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        pairs.forEach(end)
      }))
    const relay: Relay = {
      address: `tcp://127.0.0.1:${relayPort}`,
      stall: (direction) => {
        for (const pair of pairs) {
          pair.isStalled = true
          const source = direction === "to" ? pair.near : pair.far
          source.unpipe()
          source.pause()
        }
      },
      throttle: (bytesPerSecond) => {
        for (const { far, near } of pairs) {
          far.unpipe()
          far.on("data", (chunk: Buffer) => {
            near.write(chunk)
            far.pause()
            setTimeout(() => far.resume(), 1000 * chunk.length / bytesPerSecond)
          })
          far.resume()
        }
      },
      reset: () => pairs.forEach((pair) => pair.isStalled && end(pair)),
      connections: () => pairs.size
    }
    return relay
  })
