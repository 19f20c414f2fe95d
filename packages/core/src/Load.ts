/**
 * How much work a replica has in hand, as it tells the proxy on its topic `Topic.load`: JSON in the frame after the topic.
 * The proxy gives a request to a replica that has little.
 *
 * Anybody may publish there, so that a load is small, its numbers are bounded, and the codec never throws: what cannot be
 * read becomes a `ProtocolError`. Whom the proxy believes is left to it.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as MessageCodec from "./internal/messageCodec.ts"
import * as MessageShortcut from "./internal/messageShortcut.ts"
import * as Protocol from "./Protocol.ts"

/**
 * The largest load on the wire, in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes = 1024

/**
 * The largest number of calls, and of workers, that a load may tell.
 *
 * @category models
 * @since 0.1.0
 */
export const maxCount = 1_000_000

const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: maxCount }))

const fields = {
  /** Calls that run. */
  running: Count,
  /** Calls that wait for a worker. */
  queued: Count,
  /** Calls that can run at a time; 0 when the replica takes none any more. */
  workers: Count,
  /** The requests that the replica has taken from its topic since it began, so that those on their way can be told. */
  received: Schema.optionalKey(Schema.Natural)
}

/**
 * What one replica has in hand.
 *
 * @category models
 * @since 0.1.0
 */
export const Load = Schema.Struct(fields)

/**
 * The type of `Load`.
 *
 * @category models
 * @since 0.1.0
 */
export type Load = typeof Load.Type

const orError = Result.mapError((fault: MessageCodec.Fault) => new Protocol.ProtocolError(fault))

const loads = MessageCodec.codec(Load, MessageShortcut.make(fields, {}))

/**
 * Reads a load from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (frames: ReadonlyArray<Uint8Array>): Result.Result<Load, Protocol.ProtocolError> => {
  const bytes = frames.reduce((sum, frame) => sum + frame.byteLength, 0)
  return bytes > maxBytes
    ? Result.fail(
      new Protocol.ProtocolError({
        reason: "TooLarge",
        detail: `the load has ${bytes} bytes, more than the limit of ${maxBytes}`
      })
    )
    : orError(Result.flatMap(MessageCodec.parse(frames), loads.decode))
}

/**
 * Writes a load as the payload frame. Fails with `Invalid`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (load: Load): Result.Result<Uint8Array, Protocol.ProtocolError> => orError(loads.encode(load))
