/** Whether anything listens where the proxies should be. */
import * as Settings from "@skillscale/core/Settings"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Net from "node:net"

/** How long a proxy may take to be there, and then to accept a connection. */
const wait = "5 seconds"

const listens = (address: string) =>
  Effect.callback<boolean>((resume) => {
    const { hostname, port } = new URL(address)
    const socket = Net.connect({ host: hostname.replaceAll(/[[\]]/g, ""), port: Number(port) })
    socket.once("connect", () => resume(Effect.succeed(true)))
    socket.once("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  }).pipe(
    Effect.timeoutOrElse({ duration: wait, orElse: () => Effect.succeed(false) })
  )

/** Warns, once, of proxies that are not there after a while. What is served is reached as soon as they are. */
export const warn = Effect.fnUntraced(function*(addresses: Settings.ProxyAddress) {
  yield* Effect.sleep(wait)
  const members = Result.getOrElse(Settings.proxies(addresses), () => [])
  const overTcp = members.flatMap(({ xpub, xsub }) => [xsub, xpub]).filter((address) => address.startsWith("tcp://"))
  yield* Effect.forEach(overTcp, (address) =>
    Effect.flatMap(listens(address), (isThere) =>
      isThere
        ? Effect.void
        : Effect.logWarning("there is no proxy yet, so that nobody reaches the skills").pipe(
          Effect.annotateLogs({ address })
        )), {
    concurrency: "unbounded",
    discard: true
  })
})
