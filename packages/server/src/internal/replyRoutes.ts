/**
 * Through which of several joined buses each caller was heard last, which is where it listens. Bounded: of more callers, those
 * that were not heard for longest are forgotten, and are answered through all.
 */
import type * as Bus from "@skillscale/core/Bus"

const maxCallers = 10_000

export const make = (bus: Bus.Bus["Service"]) => {
  const known = new Map<string, Bus.Publish>()
  return {
    learn: (replyTo: string, { reply }: Bus.Message): void => {
      if (reply === undefined) return
      known.delete(replyTo)
      known.set(replyTo, reply)
      if (known.size <= maxCallers) return
      const [oldest] = known.keys()
      if (oldest !== undefined) known.delete(oldest)
    },
    publish: (replyTo: string, payload: Uint8Array) => (known.get(replyTo) ?? bus.publish)(replyTo, payload)
  }
}

export type ReplyRoutes = ReturnType<typeof make>
