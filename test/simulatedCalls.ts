/**
 * Calls on a simulated network, with all that is noted of each: when it was sent, what its caller read, and how it ended.
 */
import type * as ClientError from "@skillscale/client/ClientError"
import * as SkillClient from "@skillscale/client/SkillClient"
import * as Bus from "@skillscale/core/Bus"
import * as FailoverBus from "@skillscale/core/FailoverBus"
import * as Protocol from "@skillscale/core/Protocol"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Skills from "./simulatedSkills.ts"
import { chargeOf, dataOf, specOf, topic } from "./simulatedSkills.ts"
import type * as Simulation from "./simulation.ts"

/** How a caller reads a stream. */
export interface Pace {
  /** After each event, in milliseconds. */
  readonly pauseMs: number
  /** After the first event, in milliseconds. */
  readonly stallMs: number
  /** After so many events it stops. */
  readonly stopsAfter: number
}

export type Ending =
  | { readonly _tag: "Answered"; readonly content: string }
  | { readonly _tag: "Failed"; readonly reason: ClientError.Reason }
  /** Its caller did not wait for the end. */
  | { readonly _tag: "Abandoned" }

export interface Call {
  readonly skill: Skills.Name
  readonly spec: Skills.Spec
  readonly agent: Agent
  /** None for a call that is not streamed. */
  readonly pace: Option.Option<Pace>
  /** Its own time, in milliseconds. */
  readonly timeoutMs: number
  /** When its caller gives up, from when it begins, in milliseconds. */
  readonly patienceMs: number
  readonly sentAt: Array<number>
  address: Protocol.Request | undefined
  beganAt: number
  endedAt: number
  ending: Ending | undefined
  /** What was read of a stream. */
  stdout: string
  stderr: string
  readonly progress: Array<string>
  /** What a stream said that it does not have. */
  missing: ReadonlyArray<SkillClient.Missing>
  read: number
  firstReadAt: number
  /** How many of the messages to its client were lost before it. */
  lostBefore: number
}

export interface Agent {
  readonly client: SkillClient.SkillClient["Service"]
  readonly peer: Simulation.Peer
  readonly replyTo: string
}

/** What is seen on the wire. */
export interface Wire {
  /** The calls by name. */
  readonly calls: Map<string, Call>
  readonly onMessage: Simulation.Options["onMessage"]
  readonly onMishap: Simulation.Options["onMishap"]
  /** How much of the output of a streamed call was read, while nothing on its way was lost and it did not end. */
  readonly readOf: (name: string) => number | undefined
  /** How many messages on this topic were lost. */
  readonly lostOn: (topic: string) => number
  /** Hears of every message that a client publishes. */
  readonly onSent: (topic: string, payload: Uint8Array, now: number) => void
}

/** `traced` is the name of a call whose messages are printed, or a text that is in them. */
export const makeWire = (clock: Clock.Clock, traced?: string): Wire => {
  const calls = new Map<string, Call>()
  const lost = new Map<string, number>()
  return {
    calls,
    lostOn: (on) => lost.get(on) ?? 0,
    readOf: (name) => {
      const call = calls.get(name)
      if (call === undefined || Option.isNone(call.pace) || call.ending !== undefined) return undefined
      return (lost.get(call.agent.replyTo) ?? 0) === call.lostBefore ? call.read : undefined
    },
    onMishap: (what, ms) => {
      if (traced !== undefined) console.log(clock.currentTimeMillisUnsafe(), what, ms)
    },
    onMessage: (fate, on, payload) => {
      if (traced !== undefined) {
        const text = Buffer.from(payload).toString()
        const isOf = text.includes(calls.get(traced)?.address?.requestId ?? traced)
        if (isOf) console.log(clock.currentTimeMillisUnsafe(), fate, on, text)
      }
      if (fate !== "is lost") return
      lost.set(on, (lost.get(on) ?? 0) + 1)
    },
    onSent: (on, payload, now) => {
      if (on !== topic) return
      const request = Result.getOrThrow(Protocol.decodeRequest([payload]))
      const { data } = Result.getOrThrow(Protocol.parseIntent(request.intent))
      const call = calls.get(specOf(data).name)
      if (call === undefined) return
      call.address = request
      call.sentAt.push(now)
    }
  }
}

/** Connects a client that uses one proxy and falls back on the others. */
export const connect = Effect.fnUntraced(function*(
  peer: Simulation.Peer,
  proxies: number,
  wire: Wire,
  options: SkillClient.Options
): Effect.fn.Return<Agent, Bus.BusError | ClientError.ClientError, Scope.Scope> {
  const member = (index: number): FailoverBus.Member => ({ name: `proxy ${index}`, connect: peer.connect(index) })
  const others = Array.from({ length: proxies - 1 }, (_, index) => member(index + 1))
  const bus = yield* peer.within(FailoverBus.make([member(0), ...others]))
  let replyTo = ""
  const tapped = Bus.make({
    ...bus,
    publish: (on, payload, terms) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        wire.onSent(on, payload, now)
        return bus.publish(on, payload, terms)
      }),
    subscription: (topics) => {
      replyTo = topics[0] ?? replyTo
      return bus.subscription(topics)
    }
  })
  const client = yield* peer.within(
    Effect.provide(SkillClient.make(options), Layer.succeed(Bus.Bus, tapped))
  )
  return { client, peer, replyTo }
})

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

/** Reads a stream to its end, or for as long as its reader wants to. */
const follow = Effect.fnUntraced(function*(
  call: Call,
  { pauseMs, stallMs, stopsAfter }: Pace
): Effect.fn.Return<Ending, ClientError.ClientError> {
  const { agent: { client }, skill, spec, timeoutMs } = call
  let results: ReadonlyArray<SkillClient.RunResult> = []
  let seen = 0
  const happening = client.stream({ skill, topic, stdin: dataOf(spec), timeout: timeoutMs })
  yield* Stream.runForEach(Stream.take(happening, stopsAfter), (event) =>
    Effect.gen(function*() {
      seen += 1
      assert.lengthOf(results, 0, `${spec.name} went on behind its end`)
      if (event._tag === "Accepted") return
      if (event._tag === "Done") {
        call.missing = event.missing
        return void (results = [...results, event.result])
      }
      const piece = event._tag === "Progress" ? event.content : text(event.data)
      if (event._tag === "Stdout") call.stdout += piece
      if (event._tag === "Stderr") call.stderr += piece
      if (event._tag === "Progress") call.progress.push(piece)
      if (call.read === 0) {
        call.firstReadAt = yield* Clock.currentTimeMillis
        yield* Effect.sleep(stallMs)
      }
      call.read += chargeOf(piece)
      yield* Effect.sleep(pauseMs)
    }))
  const [result] = results
  if (result !== undefined) return { _tag: "Answered", content: text(result.stdout) }
  assert.strictEqual(seen, stopsAfter, `${spec.name} ended without an outcome`)
  return { _tag: "Abandoned" }
})

const invoked = ({ agent: { client }, skill, spec, timeoutMs }: Call): Effect.Effect<Ending, ClientError.ClientError> =>
  Effect.map(
    client.invoke({ skill, topic, data: dataOf(spec), timeout: timeoutMs }),
    ({ content }) => ({ _tag: "Answered", content })
  )

/** Makes a call and notes what becomes of it. */
export const perform = Effect.fnUntraced(function*(
  wire: Wire,
  call: Call
): Effect.fn.Return<void> {
  const { agent, pace, patienceMs, spec } = call
  wire.calls.set(spec.name, call)
  call.beganAt = yield* Clock.currentTimeMillis
  call.lostBefore = wire.lostOn(agent.replyTo)
  const ending = Option.match(pace, { onNone: () => invoked(call), onSome: (pace) => follow(call, pace) }).pipe(
    Effect.catch(({ reason }): Effect.Effect<Ending> => Effect.succeed({ _tag: "Failed", reason })),
    agent.peer.within
  )
  const ended = yield* Number.isFinite(patienceMs) ? Effect.timeoutOption(ending, patienceMs) : Effect.asSome(ending)
  assert.isUndefined(call.ending, `a second outcome of ${spec.name}`)
  call.ending = Option.getOrElse(ended, (): Ending => ({ _tag: "Abandoned" }))
  call.endedAt = yield* Clock.currentTimeMillis
})
