/**
 * A final response that comes in parts, from one run of its call.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Result from "effect/Result"
import * as ClientError from "../ClientError.ts"

export interface Parts {
  readonly server: string
  /** Of which sending of the request it is the answer. */
  readonly attempt: number
  /** Those that came in a row. */
  readonly texts: Array<string>
  length: number
}

export const make = (server: string, attempt: number): Parts => ({ server, attempt, texts: [], length: 0 })

/** Takes a part, if it is its turn, and returns the response when that is complete. */
export const take = (
  parts: Parts,
  { content, part, parts: count }: Protocol.Response
): Result.Result<Protocol.Response | undefined, ClientError.Reason> => {
  if (part === undefined || count === undefined) {
    return Result.fail(new ClientError.ProtocolError({ detail: "a part of an answer does not tell which it is" }))
  }
  if (part !== parts.texts.length) return Result.succeed(undefined)
  parts.texts.push(content)
  parts.length += content.length
  if (parts.length > Protocol.maxBytes) {
    const detail = `the answer has more than ${Protocol.maxBytes} bytes, which is the limit`
    return Result.fail(new ClientError.TooLarge({ detail }))
  }
  if (parts.texts.length < count) return Result.succeed(undefined)
  return Result.mapError(
    Protocol.decodeParts(parts.texts),
    ({ detail }) => new ClientError.ProtocolError({ detail: `the parts of an answer do not make one: ${detail}` })
  )
}
