/**
 * What a server tells everyone of its catalog on `Topic.announcements`: that it is there, and which revision of its catalog it
 * serves, so that who follows the catalog asks for it only when it changed. JSON in the frame after the topic.
 *
 * Anybody may publish there, so that an announcement is small, and the codec never throws: what cannot be read becomes a
 * `ProtocolError`. What is in the catalog is left to `Control`.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as MessageCodec from "./internal/messageCodec.ts"
import * as Protocol from "./Protocol.ts"
import * as Topic from "./Topic.ts"

/**
 * The largest announcement on the wire, in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const maxBytes = 1024

/**
 * How often a server announces itself when nothing changes, in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export const intervalMs = 5000

/**
 * One server's announcement.
 *
 * @category models
 * @since 0.1.0
 */
export const Announcement = Schema.Struct({
  server: Schema.String.check(Schema.isPattern(/^[\w.-]{1,64}$/)),
  topic: Topic.Topic,
  /** Differs when the catalog does; absent when the server takes its leave. */
  revision: Schema.optionalKey(Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(64)))
})

/**
 * The type of `Announcement`.
 *
 * @category models
 * @since 0.1.0
 */
export type Announcement = typeof Announcement.Type

const orError = Result.mapError((fault: MessageCodec.Fault) => new Protocol.ProtocolError(fault))

const read = MessageCodec.decoder(Announcement)
const write = MessageCodec.encoder(Announcement)

/**
 * Reads an announcement from the frames after the topic.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (frames: ReadonlyArray<Uint8Array>): Result.Result<Announcement, Protocol.ProtocolError> => {
  const bytes = frames.reduce((sum, frame) => sum + frame.byteLength, 0)
  return bytes > maxBytes
    ? Result.fail(
      new Protocol.ProtocolError({
        reason: "TooLarge",
        detail: `the announcement has ${bytes} bytes, more than the limit of ${maxBytes}`
      })
    )
    : orError(Result.flatMap(MessageCodec.parse(frames), read))
}

/**
 * Writes an announcement as the payload frame. Fails with `Invalid`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (announcement: Announcement): Result.Result<Uint8Array, Protocol.ProtocolError> =>
  orError(write(announcement))
