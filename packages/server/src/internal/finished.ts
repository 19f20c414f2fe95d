/**
 * The final replies of calls that ended a short while ago, for callers that did not hear them and ask again. Bounded in time
 * and bytes; when there are too many bytes, the oldest go first.
 */

export interface Options {
  readonly maxBytes: number
  readonly keepMs: number
}

interface Kept {
  readonly payload: Uint8Array
  readonly until: number
}

/** What a reply costs besides its payload: its key and its place. */
const overhead = 512

export const make = ({ keepMs, maxBytes }: Options) => {
  const kept = new Map<string, Kept>()
  let bytes = 0

  const drop = (key: string, { payload }: Kept): void => {
    kept.delete(key)
    bytes -= payload.byteLength + overhead
  }

  const shrink = (now: number): void => {
    for (const [key, reply] of kept) {
      if (reply.until > now && bytes <= maxBytes) return
      drop(key, reply)
    }
  }

  return {
    /** Keeps a reply, unless it alone is too large. `now` is in milliseconds and never goes back. */
    keep: (key: string, payload: Uint8Array, now: number): void => {
      const former = kept.get(key)
      if (former !== undefined) drop(key, former)
      if (payload.byteLength + overhead <= maxBytes) {
        kept.set(key, { payload, until: now + keepMs })
        bytes += payload.byteLength + overhead
      }
      shrink(now)
    },
    find: (key: string, now: number): Uint8Array | undefined => {
      shrink(now)
      return kept.get(key)?.payload
    }
  }
}

export type Finished = ReturnType<typeof make>
