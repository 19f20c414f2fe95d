/**
 * What a call is promised, whatever carries it: real clients, real servers and real processes, run once per transport. What goes
 * wrong on the way is made in the buses of its peers (`Wire`), so that it can be made on every transport.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { delivery } from "./callDelivery.ts"
import { replicas } from "./callReplicas.ts"
import { work } from "./callWork.ts"
import type { Net } from "./support/calls.ts"

/** What a transport does besides carrying messages to all who subscribe. */
export interface Capabilities {
  /** Gives a request to one of the replicas. */
  readonly replicas: boolean
  /** Tells a caller that nobody hears it. */
  readonly tellsAbsence: boolean
  /** Goes on when a proxy ends. */
  readonly survivesProxy: boolean
}

export interface Harness {
  readonly capabilities: Capabilities
  /** Runs on a net of its own, unless the transport cannot do what it needs. */
  readonly test: (
    title: string,
    body: (net: Net) => Effect.Effect<void, unknown, Scope.Scope>,
    condition?: boolean
  ) => void
}

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

/** Runs the suite over the nets that `makeNet` builds, one per test. */
export const suite = <E>(
  name: string,
  makeNet: Effect.Effect<Net, E, Scope.Scope>,
  capabilities: Capabilities
): void => {
  const test: Harness["test"] = (title, body, condition = true) => {
    if (condition) it.live(title, () => Effect.flatMap(makeNet, body).pipe(quiet), 60_000)
  }
  // Most of the time of each is waiting.
  describe.concurrent(`${name}: a call`, () => {
    for (const tests of [delivery, replicas, work]) tests({ capabilities, test })
  })
}
