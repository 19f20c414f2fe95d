/** The state machine of a topic's circuit, step by step and at random. */
import * as ClientError from "@skillscale/client/ClientError"
import type * as Protocol from "@skillscale/core/Protocol"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Circuit from "../src/internal/circuit.ts"

const settings: Circuit.Settings = { failures: 3, periodMs: 1000, longestPeriodMs: 8000 }

const begin = (options: Partial<Circuit.Options> = {}) => {
  const changes: Array<string> = []
  const circuit = Circuit.make({
    ...settings,
    // The whole period.
    random: () => 1,
    onChange: (from, to) => void changes.push(`${from} ${to}`),
    ...options
  })
  const enter = (now: number): Circuit.Pass => {
    const pass = circuit.enter(now)
    assert.isDefined(pass)
    return pass ?? NaN
  }
  const call = (outcome: Circuit.Outcome, now: number) => circuit.onEnd(enter(now), outcome, now)
  const fail = (times: number, now: number) => {
    for (let count = 0; count < times; count++) call("Failure", now)
  }
  return { changes, circuit, enter, call, fail }
}

describe("a closed circuit", () => {
  it("opens after so many failures in a row", () => {
    const { call, changes, circuit, fail } = begin()
    fail(2, 0)
    call("Success", 0)
    fail(2, 0)
    call("Neither", 0)
    assert.strictEqual(circuit.state(), "Closed")
    fail(1, 0)
    assert.strictEqual(circuit.state(), "Open")
    assert.deepStrictEqual(changes, ["Closed Open"])
  })
})

describe("an open circuit", () => {
  it("refuses until its period is over, and tells how long that is", () => {
    const { circuit, fail } = begin()
    fail(3, 100)
    assert.isUndefined(circuit.enter(100))
    assert.strictEqual(circuit.retryAfterMs(100), 1000)
    assert.isUndefined(circuit.enter(1099.5))
    assert.strictEqual(circuit.retryAfterMs(1099.5), 1)
    assert.isDefined(circuit.enter(1100))
    assert.strictEqual(circuit.state(), "HalfOpen")
  })

  it("is open for half of the period at least", () => {
    const { circuit, fail } = begin({ random: () => 0 })
    fail(3, 0)
    assert.isUndefined(circuit.enter(499))
    assert.isDefined(circuit.enter(500))
  })

  it("takes no notice of calls that began before", () => {
    const { circuit, enter, fail } = begin()
    const early = [enter(0), enter(0), enter(0), enter(0)]
    fail(3, 0)
    circuit.onEnd(early[0] ?? NaN, "Success", 10)
    assert.strictEqual(circuit.state(), "Open")
    circuit.onEnd(early[1] ?? NaN, "Failure", 900)
    const trial = enter(1000)
    circuit.onEnd(early[2] ?? NaN, "Success", 1000)
    assert.strictEqual(circuit.state(), "HalfOpen")
    circuit.onEnd(trial, "Success", 1000)
    // Those that hang since then do not open it again.
    for (let count = 0; count < 3; count++) circuit.onEnd(early[3] ?? NaN, "Failure", 1001)
    assert.strictEqual(circuit.state(), "Closed")
  })
})

describe("a half-open circuit", () => {
  it("lets one call through, and closes when one succeeds, as if it had never been open", () => {
    const { changes, circuit, enter, fail } = begin()
    fail(3, 0)
    const trial = enter(1000)
    assert.isUndefined(circuit.enter(1000))
    assert.strictEqual(circuit.retryAfterMs(1000), 1000)
    circuit.onEnd(trial, "Failure", 1000)
    circuit.onEnd(enter(3000), "Success", 3500)
    assert.deepStrictEqual(changes.slice(-2), ["Open HalfOpen", "HalfOpen Closed"])
    fail(2, 3500)
    assert.strictEqual(circuit.state(), "Closed")
    fail(1, 3500)
    assert.isUndefined(circuit.enter(4499))
    assert.isDefined(circuit.enter(4500))
  })

  it("opens for twice as long each time that the trial fails, up to the longest period", () => {
    const { circuit, enter, fail } = begin()
    fail(3, 0)
    let now = 0
    for (const period of [1000, 2000, 4000, 8000, 8000]) {
      assert.isUndefined(circuit.enter(now + period - 1))
      now += period
      circuit.onEnd(enter(now), "Failure", now)
      assert.strictEqual(circuit.state(), "Open")
    }
  })

  it("lets another call through when the trial tells nothing, or a server has it", () => {
    const { circuit, enter, fail } = begin()
    fail(3, 0)
    circuit.onEnd(enter(1000), "Neither", 1000)
    assert.strictEqual(circuit.state(), "HalfOpen")
    const taken = enter(1000)
    assert.isUndefined(circuit.enter(1000))
    circuit.onTaken(taken)
    const next = enter(1000)
    circuit.onTaken(taken)
    assert.isUndefined(circuit.enter(1000))
    circuit.onEnd(taken, "Success", 1001)
    assert.strictEqual(circuit.state(), "Closed")
    circuit.onEnd(next, "Failure", 1001)
    fail(2, 1001)
    assert.strictEqual(circuit.state(), "Closed")
  })

  it("does not wait for a trial for longer than the longest period", () => {
    const { circuit, fail } = begin()
    fail(3, 0)
    assert.isDefined(circuit.enter(1000))
    assert.isUndefined(circuit.enter(8999))
    assert.strictEqual(circuit.retryAfterMs(8999), 1)
    assert.isDefined(circuit.enter(9000))
    assert.isUndefined(circuit.enter(9000))
  })
})

describe("a circuit that is forgotten", () => {
  it("was told closed last", () => {
    const { changes, circuit, enter, fail } = begin()
    fail(3, 0)
    circuit.forget()
    circuit.forget()
    assert.deepStrictEqual(changes, ["Closed Open", "Open Closed"])
    circuit.onEnd(enter(1000), "Success", 1000)
    assert.lengthOf(changes, 2)
    const other = begin()
    other.circuit.forget()
    other.fail(3, 0)
    assert.isEmpty(other.changes)
  })
})

const allowed = ["Closed Open", "Open HalfOpen", "HalfOpen Closed", "HalfOpen Open"]

const Action = Schema.Struct({
  kind: Schema.Literals(["enter", "enter", "taken", "Success", "Failure", "Failure", "Neither", "pass time"]),
  /** Which of the calls that are on their way, and how long. */
  number: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3000 })),
  random: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999 }))
})

describe("any circuit", () => {
  it.prop(
    "refuses only when it may, and never for good",
    [Schema.Array(Action).check(Schema.isMinLength(100))],
    ([actions]) => {
      let random = 0
      let now = 0
      let openedAt = 0
      let inARow = 0
      const changes: Array<readonly [Circuit.State, Circuit.State]> = []
      const circuit = Circuit.make({
        ...settings,
        random: () => random,
        onChange: (from, to) => {
          changes.push([from, to])
          if (to === "Open") openedAt = now
        }
      })
      /** The calls on their way, and how many changes there were when they began. */
      const calls: Array<{ readonly pass: Circuit.Pass; readonly since: number; readonly at: number; taken: boolean }> =
        []
      for (const action of actions) {
        random = action.random
        const state = circuit.state()
        const call = calls[action.number % Math.max(1, calls.length)]
        const since = changes.length
        if (action.kind === "pass time") {
          now += action.number
        } else if (action.kind === "enter") {
          const refuses = circuit.refuses(now)
          const pass = circuit.enter(now)
          assert.strictEqual(pass === undefined, refuses)
          if (pass === undefined) {
            const wait = circuit.retryAfterMs(now)
            assert.isTrue(wait >= 1 && wait <= settings.longestPeriodMs)
            assert.notStrictEqual(state, "Closed")
            // It is open, or there is a trial that nobody has.
            const hasTrial = calls.some((call) =>
              call.since === since && !call.taken && now - call.at < settings.longestPeriodMs
            )
            assert.isTrue(state === "Open" || hasTrial)
          } else {
            if (state === "Open") assert.isAtLeast(now - openedAt, settings.periodMs / 2)
            calls.push({ pass, since: changes.length, at: now, taken: false })
          }
        } else if (call !== undefined && action.kind === "taken") {
          call.taken = true
          circuit.onTaken(call.pass)
        } else if (call !== undefined && action.kind !== "taken") {
          calls.splice(calls.indexOf(call), 1)
          circuit.onEnd(call.pass, action.kind, now)
          const counts = call.since === since
          if (state === "Closed" && counts && action.kind !== "Neither") {
            inARow = action.kind === "Failure" ? inARow + 1 : 0
          }
          const expected = !counts || action.kind === "Neither"
            ? state
            : state === "HalfOpen"
            ? action.kind === "Success" ? "Closed" : "Open"
            : inARow >= settings.failures
            ? "Open"
            : "Closed"
          assert.strictEqual(circuit.state(), expected)
          if (expected !== state) inARow = 0
        }
      }
      changes.forEach(([from, to], index) => {
        assert.include(allowed, `${from} ${to}`)
        assert.strictEqual(from, changes[index - 1]?.[1] ?? "Closed")
      })
      assert.isDefined(circuit.enter(now + settings.longestPeriodMs))
    }
  )
})

describe("outcomeOf", () => {
  const answered = (fields: Partial<Protocol.Response>) =>
    Circuit.outcomeOf(
      Exit.succeed({ requestId: "r", status: "error", content: "", error: "", ...fields }),
      { isLate: false, isTaken: false }
    )
  const failed = (reason: ClientError.Reason) => Circuit.outcomeOf(Exit.fail(reason), { isLate: false, isTaken: true })

  it("is a failure where no server took the call, or it was lost", () => {
    for (const code of ["NoServer", "Overloaded", "ShuttingDown"]) assert.strictEqual(answered({ code }), "Failure")
    assert.strictEqual(failed(new ClientError.ReplicaLost({ server: "s", topic: "t" })), "Failure")
    assert.strictEqual(failed(new ClientError.Unreachable({ detail: "" })), "Failure")
  })

  it("is a success whatever else a server answers", () => {
    assert.strictEqual(answered({ status: "success" }), "Success")
    assert.strictEqual(answered({}), "Success")
    for (const code of ["SkillFailed", "SkillNotFound", "BadRequest", "Internal", "Unheard"]) {
      assert.strictEqual(answered({ code }), "Success")
    }
    assert.strictEqual(failed(new ClientError.ProtocolError({ detail: "" })), "Success")
  })

  it("is neither where the time ended with a server, or the call was not sent", () => {
    assert.strictEqual(answered({ code: "TimedOut" }), "Neither")
    assert.strictEqual(failed(new ClientError.TooLarge({ detail: "" })), "Neither")
    assert.strictEqual(failed(new ClientError.Closed()), "Neither")
    assert.strictEqual(
      Circuit.outcomeOf(Exit.die("a fault"), { isLate: true, isTaken: false }),
      "Neither"
    )
  })

  it("of an interrupted call is a failure when its time was over and nobody had it", () => {
    const interrupted = Exit.failCause(Cause.interrupt())
    for (const isLate of [true, false]) {
      for (const isTaken of [true, false]) {
        const outcome = isLate && !isTaken ? "Failure" : "Neither"
        assert.strictEqual(Circuit.outcomeOf(interrupted, { isLate, isTaken }), outcome)
      }
    }
  })
})
