/**
 * Through which of several joined buses each caller was heard last, which is where it listens. One that was heard through two of
 * them lately is answered through all: it has changed its proxy, and what was on its way by the one that it left may come last.
 * Bounded: of more callers, those that were not heard for longest are forgotten, and are answered through all.
 */
import type * as Bus from "@skillscale/core/Bus"

const maxCallers = 10_000
/** How long after a change something may come by the other way. */
const changeMs = 10_000

interface Route {
  readonly reply: Bus.Publish
  readonly changedAt: number
}

/** `now` is in milliseconds. */
export const make = (bus: Bus.Bus["Service"], now: () => number) => {
  const known = new Map<string, Route>()
  return {
    learn: (replyTo: string, { reply }: Bus.Message): void => {
      if (reply === undefined) return
      const before = known.get(replyTo)
      const changedAt = before === undefined
        ? Number.NEGATIVE_INFINITY
        : before.reply === reply
        ? before.changedAt
        : now()
      known.delete(replyTo)
      known.set(replyTo, { reply, changedAt })
      if (known.size <= maxCallers) return
      const [oldest] = known.keys()
      if (oldest !== undefined) known.delete(oldest)
    },
    publish: (replyTo: string, payload: Uint8Array, options?: Bus.PublishOptions) => {
      const route = known.get(replyTo)
      const publish = route === undefined || now() - route.changedAt < changeMs ? bus.publish : route.reply
      return publish(replyTo, payload, options)
    }
  }
}

export type ReplyRoutes = ReturnType<typeof make>
