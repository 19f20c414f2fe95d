/**
 * Keeps a connection to an external server: connects, and when it is lost, again, later and later. The skills stay for a while
 * without a connection, and calls wait for the next one.
 */
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as MountFailure from "./mountFailure.ts"
import * as MountLink from "./mountLink.ts"
import * as MountSkills from "./mountSkills.ts"
import type * as MountTarget from "./mountTarget.ts"

export interface Options {
  readonly name: string
  readonly version: string
  readonly target: MountTarget.Target
  readonly startTimeout: Duration.Duration
  readonly refresh: Duration.Duration
  /** How long the skills stay without a connection. */
  readonly keep: Duration.Duration
}

export interface Keeper {
  readonly mounts: SubscriptionRef.SubscriptionRef<MountSkills.Mounts>
  /** The connection, as soon as there is one. */
  readonly link: Effect.Effect<MountLink.Link>
}

const firstDelayMs = 200
const longestDelayMs = 30_000
/** A connection that lasted so long was a good one. */
const goodMs = 30_000
/** How much is said of what is wrong with tools, in characters. */
const maxTold = 4000

type Failure = MountFailure.Failure | MountFailure.NotStarted

/** Tells what is wrong with the tools, once. */
const diagnosticsTeller = (redact: (text: string) => string) => {
  let told = ""
  return ({ diagnostics }: SkillDiscovery.Catalog) => {
    const text = diagnostics.map(({ message }) => redact(message)).join("; ").slice(0, maxTold)
    if (text === told) return Effect.void
    told = text
    return text === "" ? Effect.void : Effect.logWarning("not all tools are as they should be", text)
  }
}

/** Drops the skills when nobody stops it in time. */
const dropper = (mounts: Keeper["mounts"], keep: Duration.Duration, scope: Scope.Scope) => {
  let dropping: Fiber.Fiber<unknown> | undefined
  const drop = Effect.delay(
    Effect.andThen(
      Effect.logWarning("the external server is away for too long: its tools are no skills any more"),
      SubscriptionRef.set(mounts, MountSkills.none)
    ),
    keep
  )
  return {
    start: Effect.gen(function*() {
      if (dropping === undefined) dropping = yield* Effect.forkIn(drop, scope)
    }),
    stop: Effect.suspend(() => {
      const fiber = dropping
      dropping = undefined
      return fiber === undefined ? Effect.void : Fiber.interrupt(fiber)
    })
  }
}

/** The first connection decides whether there is a mount at all; it is told how that ended. */
export const make = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Keeper, Failure, Scope.Scope> {
    const { keep, name, target } = options
    const mounts = yield* SubscriptionRef.make<MountSkills.Mounts>(MountSkills.none)
    const isThere = yield* Latch.make(false)
    let current: MountLink.Link | undefined
    let era: MountLink.Era | undefined

    const tellDiagnostics = diagnosticsTeller(target.redact)
    const scope = yield* Effect.scope
    const dropping = dropper(mounts, keep, scope)

    const onTools = Effect.fnUntraced(function*(tools: ReadonlyArray<unknown>) {
      yield* dropping.stop
      const next = MountSkills.make(name, tools)
      yield* tellDiagnostics(next.catalog)
      const digests = ({ catalog }: MountSkills.Mounts) => catalog.skills.map(({ digest }) => digest).join(" ")
      if (digests(next) === digests(yield* SubscriptionRef.get(mounts))) return
      yield* SubscriptionRef.set(mounts, next)
    })

    const connect = Effect.gen(function*() {
      const { explain, farewell, transport } = yield* target.open
      const link = yield* MountLink.make({ ...options, era, transport, farewell, onTools }).pipe(
        Effect.catch((error) =>
          Effect.flatMap(explain, (how) => {
            // A program that ended at a question that it does not know is an old one.
            era = era === undefined && how !== undefined ? "legacy" : undefined
            return Effect.fail(how === undefined ? error : MountFailure.ended(how))
          })
        )
      )
      era = link.era
      return { link, explain }
    })

    const first = yield* Deferred.make<void, Failure>()

    const serve = Effect.gen(function*() {
      const { explain, link } = yield* connect
      current = link
      yield* isThere.open
      yield* Effect.logInfo("connected to the external server").pipe(
        Effect.annotateLogs({ mount: name, era: link.era })
      )
      yield* Deferred.succeed(first, undefined)
      const why = yield* Effect.onExit(link.lost, () => {
        current = undefined
        return isThere.close
      })
      const how = yield* explain
      return how === undefined ? why : `the program ${how}`
    }).pipe(Effect.scoped, Effect.catchDefect((defect) => Effect.fail(MountFailure.from(defect))))

    const loop = Effect.gen(function*() {
      let delayMs = firstDelayMs
      for (let attempt = 1;; attempt++) {
        const began = performance.now()
        const result = yield* Effect.result(serve)
        const why = result._tag === "Success" ? result.success : result.failure.message
        if (!(yield* Deferred.isDone(first))) {
          // Another chance, as what it may be.
          if (attempt === 1 && era === "legacy" && result._tag === "Failure") continue
          return yield* result._tag === "Failure" ? Deferred.fail(first, result.failure) : Effect.void
        }
        yield* dropping.start
        if (performance.now() - began > goodMs) delayMs = firstDelayMs
        const waitMs = Math.round(delayMs * (0.8 + 0.4 * Math.random()))
        yield* Effect.logWarning("the external server is away").pipe(
          Effect.annotateLogs({ mount: name, why: target.redact(why), againInMs: waitMs })
        )
        yield* Effect.sleep(waitMs)
        delayMs = Math.min(delayMs * 2, longestDelayMs)
      }
    })

    yield* Effect.forkIn(loop, scope)
    yield* Deferred.await(first)
    const link: Effect.Effect<MountLink.Link> = Effect.suspend(() =>
      current === undefined ? Effect.andThen(isThere.await, link) : Effect.succeed(current)
    )
    return { mounts, link }
  }
)
