/**
 * Turns the answers to one streamed request into events, in order and without gaps. Pure but for its own state.
 *
 * What comes too early is held until the rest is there. The final answer repeats the output: what did not come until then is
 * taken from it, and of what it does not have, it is told that it is missing.
 */
import * as Protocol from "@skillscale/core/Protocol"
import * as Result from "effect/Result"
import type * as ClientError from "../ClientError.ts"
import type * as SkillClient from "../SkillClient.ts"
import * as Answer from "./answer.ts"

export interface Options {
  readonly asked: Answer.Asked
  /** What of that is held which comes too early, in bytes; the rest is as good as lost. */
  readonly window: number
}

export interface Assembly {
  readonly take: (
    response: Protocol.Response
  ) => Result.Result<ReadonlyArray<SkillClient.StreamEvent>, ClientError.Reason>
  /** The number of the event that comes next. */
  readonly next: () => number
  /** Whether later ones came before it. */
  readonly hasGap: () => boolean
}

/** What an event has of the output, in the bytes of the window. */
export const chargeOf = (event: SkillClient.StreamEvent): number => {
  switch (event._tag) {
    case "Stdout":
    case "Stderr":
      return Protocol.chargeOf(event.data.byteLength)
    case "Progress":
      return Protocol.chargeOf(Buffer.byteLength(event.content))
    default:
      return 0
  }
}

const eventOf = (response: Protocol.Response): SkillClient.StreamEvent | undefined => {
  switch (response.event) {
    case "accepted":
      return { _tag: "Accepted", server: response.server }
    case "progress":
      return { _tag: "Progress", content: response.content }
    case "chunk":
      if (response.data === undefined || response.stream === undefined) return undefined
      return { _tag: response.stream === "stdout" ? "Stdout" : "Stderr", data: response.data }
    default:
      return undefined
  }
}

/** What is left of standard error behind `passed` bytes of it, and whether something before that is not there. */
const restOfStderr = (
  stderr: string,
  passed: number,
  streamed: Protocol.Streamed | undefined
): { readonly rest: Uint8Array; readonly isWhole: boolean } => {
  const end = Buffer.from(stderr, "utf8")
  if (streamed === undefined) return { rest: passed === 0 ? end : new Uint8Array(), isWhole: true }
  if (passed >= streamed.stderr) return { rest: new Uint8Array(), isWhole: true }
  const from = streamed.stderr - end.byteLength
  // What was not UTF-8 is as long no more.
  const isExact = !stderr.includes("\ufffd") && from >= 0
  if (!isExact && passed > 0) return { rest: new Uint8Array(), isWhole: false }
  return { rest: end.subarray(Math.max(0, passed - from)), isWhole: isExact && from <= passed }
}

export const make = ({ asked, window }: Options): Assembly => {
  let next = 0
  let latest = -1
  const passed = { stdout: 0, stderr: 0, progress: 0 }
  const held = new Map<number, SkillClient.StreamEvent | undefined>()
  let heldBytes = 0
  let isAccepted = false

  const pass = (event: SkillClient.StreamEvent | undefined): ReadonlyArray<SkillClient.StreamEvent> => {
    if (event?._tag === "Stdout") passed.stdout += event.data.byteLength
    if (event?._tag === "Stderr") passed.stderr += event.data.byteLength
    if (event?._tag === "Progress") passed.progress += 1
    if (event?._tag === "Accepted") isAccepted = true
    return event === undefined ? [] : [event]
  }

  const hold = (seq: number, event: SkillClient.StreamEvent | undefined): void => {
    const charge = event === undefined ? 0 : chargeOf(event)
    if (held.has(seq) || heldBytes + charge > window) return
    held.set(seq, event)
    heldBytes += charge
  }

  const passHeld = (): ReadonlyArray<SkillClient.StreamEvent> => {
    const events: Array<SkillClient.StreamEvent> = []
    while (held.has(next)) {
      const event = held.get(next)
      held.delete(next)
      heldBytes -= event === undefined ? 0 : chargeOf(event)
      next += 1
      events.push(...pass(event))
    }
    return events
  }

  const hasGap = () => latest >= next

  const final = (response: Protocol.Response): ReturnType<Assembly["take"]> =>
    Result.map(Answer.runResult(response, asked), (result) => {
      const { streamed } = response
      const stderr = restOfStderr(result.stderr, passed.stderr, streamed)
      const stdout = result.stdout.subarray(passed.stdout)
      const { server } = response
      const events = [
        // What is over at once is not acknowledged.
        ...isAccepted || server === undefined ? [] : pass({ _tag: "Accepted", server }),
        ...stdout.length > 0 ? pass({ _tag: "Stdout", data: stdout }) : [],
        ...stderr.rest.length > 0 ? pass({ _tag: "Stderr", data: stderr.rest }) : []
      ]
      // Of a server that does not tell how much there was, whatever may have been lost counts as lost.
      const isMissing = streamed === undefined
        ? { stdout: false, stderr: hasGap(), progress: hasGap() }
        : {
          stdout: passed.stdout < streamed.stdout,
          stderr: !stderr.isWhole,
          progress: passed.progress < streamed.progress
        }
      const missing = (["stdout", "stderr", "progress"] as const).filter((what) => isMissing[what])
      return [...events, { _tag: "Done", result, missing }]
    })

  const take = (response: Protocol.Response): ReturnType<Assembly["take"]> => {
    if (response.event === undefined) return final(response)
    const { seq } = response
    const event = eventOf(response)
    if (seq === undefined) return Result.succeed(pass(event))
    latest = Math.max(latest, seq)
    if (seq > next) hold(seq, event)
    if (seq !== next) return Result.succeed([])
    next += 1
    return Result.succeed([...pass(event), ...passHeld()])
  }

  return { take, next: () => next, hasGap }
}
