/**
 * Turns the answers to one streamed request into events, in order and without gaps. Pure but for its own state.
 */
import type * as Protocol from "@skillscale/core/Protocol"
import * as Result from "effect/Result"
import * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import * as Answer from "./answer.ts"

type Taken = Result.Result<ReadonlyArray<SkillClient.StreamEvent>, ClientError.Reason>

export const make = (asked: Answer.Asked): (response: Protocol.Response) => Taken => {
  let expected = 0
  let stdout = 0
  let stderr = 0

  const lost = (seq: number): Taken => {
    const which = seq - expected === 1 ? `event ${expected}` : `events ${expected} to ${seq - 1}`
    return Result.fail(new ClientError.ProtocolError({ detail: `${which} of the stream did not arrive` }))
  }

  const event = (response: Protocol.Response): SkillClient.StreamEvent | undefined => {
    switch (response.event) {
      case "accepted":
        return { _tag: "Accepted", server: response.server }
      case "progress":
        return { _tag: "Progress", content: response.content }
      case "chunk":
        if (response.data === undefined || response.stream === undefined) return undefined
        if (response.stream === "stdout") stdout += response.data.byteLength
        else stderr += response.data.byteLength
        return { _tag: response.stream === "stdout" ? "Stdout" : "Stderr", data: response.data }
      default:
        return undefined
    }
  }

  const final = (response: Protocol.Response): Taken =>
    Result.map(Answer.runResult(response, asked), (result) => {
      const events: Array<SkillClient.StreamEvent> = []
      // The final answer repeats the whole output: what did not come in chunks, or got lost behind the last one, is there.
      const rest = stdout > 0 && result.truncated.includes("stdout")
        ? new Uint8Array()
        : result.stdout.subarray(stdout)
      if (rest.length > 0) events.push({ _tag: "Stdout", data: rest })
      if (stderr === 0 && result.stderr !== "") {
        events.push({ _tag: "Stderr", data: Buffer.from(result.stderr, "utf8") })
      }
      events.push({ _tag: "Done", result })
      return events
    })

  return (response) => {
    const { seq } = response
    if (seq !== undefined) {
      if (seq > expected) return lost(seq)
      if (seq < expected && response.event !== undefined) return Result.succeed([])
      expected = seq + 1
    }
    if (response.event === undefined) return final(response)
    const made = event(response)
    return Result.succeed(made === undefined ? [] : [made])
  }
}
