import type * as Load from "@skillscale/core/Load"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import {
  distrustMs,
  indifference,
  maxBeatMs,
  maxCompared,
  ReplicaSet,
  settleMs,
  silentMs
} from "../src/internal/replicaSet.ts"

const reporter = { isClosed: false, heardAt: -1 }
const idle: Load.Load = { running: 0, queued: 0, workers: 4 }
const hasRoom = () => true

const setOf = (size: number): ReplicaSet<number> => {
  const set = new ReplicaSet<number>()
  for (let index = 0; index < size; index += 1) {
    set.add(index)
  }
  return set
}

const telling = (loads: ReadonlyArray<Partial<Load.Load>>): ReplicaSet<number> => {
  const set = setOf(loads.length)
  loads.forEach((load, index) => set.tell(index, reporter, { ...idle, ...load }, 0))
  return set
}

/** How many of so many requests each replica gets. */
const shares = (set: ReplicaSet<number>, requests: number, now = 0): ReadonlyArray<number> => {
  const counts = Array.from({ length: set.size }, () => 0)
  for (let index = 0; index < requests; index += 1) {
    const next = set.next(hasRoom, now)
    if (next !== undefined) {
      counts[next] = (counts[next] ?? 0) + 1
    }
  }
  return counts
}

describe("replicas that tell no load", () => {
  it.prop("get requests in turn", [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))], ([size]) => {
    const set = setOf(size)
    const got = Array.from({ length: 3 * size }, () => set.next(hasRoom, 0))
    assert.deepStrictEqual(got, Array.from(got, (_, index) => index % size))
  })

  it("get one of as many as there are, however loaded the others are", () => {
    for (const load of [idle, { ...idle, queued: 1000 }]) {
      const set = setOf(4)
      for (const index of [0, 1, 2]) {
        set.tell(index, reporter, { ...load, workers: 1 + index }, 0)
      }
      assert.strictEqual(shares(set, 400)[3], 100)
    }
  })

  it("keep their turn when others come and go", () => {
    const set = setOf(3)
    assert.deepStrictEqual([set.next(hasRoom, 0), set.next(hasRoom, 0)], [0, 1])
    set.delete(0)
    assert.strictEqual(set.next(hasRoom, 0), 2)
    set.delete(7)
    set.add(3)
    assert.deepStrictEqual([set.next(hasRoom, 0), set.next(hasRoom, 0), set.next(hasRoom, 0)], [3, 1, 2])
  })
})

describe("replicas that tell their load", () => {
  it("get requests in turn while they are equal", () => {
    assert.deepStrictEqual(shares(telling([{}, {}, {}]), 30), [10, 10, 10])
    const set = telling([{}, {}, {}])
    assert.deepStrictEqual(Array.from({ length: 4 }, () => set.next(hasRoom, 0)), [0, 1, 2, 0])
  })

  it("get more the less they have in hand by worker", () => {
    assert.deepStrictEqual(shares(telling([{ running: 4, queued: 4 }, { running: 2 }, {}]), 6), [0, 2, 4])
    assert.deepStrictEqual(shares(telling([{ workers: 1 }, { workers: 3 }]), 8), [2, 6])
  })

  it("count what they were sent after the load, and not what it covers", () => {
    const set = telling([{}, {}])
    assert.deepStrictEqual(shares(set, 10), [5, 5])
    set.tell(0, reporter, idle, 0)
    assert.deepStrictEqual(shares(set, 5), [5, 0])
  })

  it("count what is on its way when the load is told", () => {
    const set = telling([{ received: 0 }, { received: 0 }])
    assert.deepStrictEqual(shares(set, 10), [5, 5])
    // Three of five are not there yet, and one that was is done.
    set.tell(0, reporter, { ...idle, running: 1, received: 2 }, 1)
    assert.deepStrictEqual(shares(set, 1), [1, 0])
    assert.deepStrictEqual(shares(set, 2), [1, 1])
    set.tell(0, reporter, { ...idle, running: 6, received: 7 }, 2)
    set.tell(1, reporter, { ...idle, running: 6, received: 6 }, 2)
    assert.deepStrictEqual(shares(set, 2), [1, 1])
  })

  it("may have received requests before they connected", () => {
    const set = setOf(2)
    assert.deepStrictEqual(shares(set, 6), [3, 3])
    // One of three is on its way, which cannot be told from one that was received before.
    set.tell(0, reporter, { ...idle, running: 2, received: 102 }, 0)
    set.tell(1, reporter, { ...idle, running: 3 }, 0)
    assert.deepStrictEqual(shares(set, 1), [1, 0])
    set.tell(0, reporter, { ...idle, running: 4, received: 104 }, 1)
    set.tell(1, reporter, { ...idle, running: 4 }, 1)
    assert.deepStrictEqual(shares(set, 10), [5, 5])
    set.tell(0, reporter, { ...idle, received: 107 }, 2)
    set.tell(1, reporter, { ...idle, running: 3 }, 2)
    assert.deepStrictEqual(shares(set, 3), [2, 1])
  })

  it("do not count for long what they never received", () => {
    const set = telling([{ received: 0 }, { received: 0 }])
    assert.deepStrictEqual(shares(set, 20), [10, 10])
    set.tell(1, reporter, { ...idle, received: 10 }, 0)
    set.tell(0, reporter, { ...idle, received: 0 }, 0)
    assert.deepStrictEqual(shares(set, 8), [0, 8])
    for (const now of [settleMs, 2 * settleMs]) {
      set.tell(0, reporter, { ...idle, received: 0 }, now)
      set.tell(1, reporter, { ...idle, received: 18 }, now)
    }
    assert.deepStrictEqual(shares(set, 8), [4, 4])
  })

  it("begin anew when they received less than before", () => {
    const set = telling([{ received: 1000 }, {}])
    set.tell(0, reporter, { ...idle, received: 0 }, 1)
    assert.deepStrictEqual(shares(set, 8), [4, 4])
  })

  it("are the last to get requests when they have no workers", () => {
    const set = telling([{ workers: 0 }, { running: 4, queued: 900 }])
    assert.deepStrictEqual(shares(set, 50), [0, 50])
    assert.deepStrictEqual(shares(telling([{ workers: 0 }, { workers: 0 }]), 4), [2, 2])
    assert.strictEqual(set.next((replica) => replica === 0, 0), 0)
  })

  it("are passed over without room, and nobody gets a request when none has", () => {
    const set = telling([{}, { running: 3 }, { running: 2 }])
    assert.strictEqual(set.next((replica) => replica !== 0, 0), 2)
    assert.strictEqual(set.next((replica) => replica === 1, 0), 1)
    assert.isUndefined(set.next(() => false, 0))
    assert.isUndefined(new ReplicaSet<number>().next(hasRoom, 0))
    const large = setOf(3 * maxCompared)
    assert.strictEqual(large.next((replica) => replica === 2 * maxCompared, 0), 2 * maxCompared)
  })

  it("are compared a few at a time, and each has its turn to be", () => {
    const size = 3 * maxCompared
    const busy = Array.from({ length: size }, (_, index) => ({ running: index === size - 1 ? 0 : 4 }))
    assert.strictEqual(shares(telling(busy), size - maxCompared)[size - 1], 0)
    assert.strictEqual(shares(telling(busy), size - maxCompared + 1)[size - 1], 1)
  })

  it("are told of by the same as long as that one is there", () => {
    const first = { isClosed: false, heardAt: -1 }
    const set = telling([{}])
    set.add(1)
    set.tell(1, first, { ...idle, running: 4 }, 0)
    set.tell(1, { isClosed: false, heardAt: -1 }, idle, 0)
    assert.deepStrictEqual(shares(set, 4), [4, 0])
    first.isClosed = true
    // Nobody is believed: it has its turn.
    assert.deepStrictEqual(shares(set, 4), [2, 2])
    set.tell(1, { isClosed: false, heardAt: -1 }, idle, 0)
    assert.deepStrictEqual(shares(set, 6), [0, 6])
  })

  const Small = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))
  const Step = Schema.Union([
    Schema.Struct({ requests: Small }),
    Schema.Struct({ replica: Small, running: Small, queued: Small, workers: Small })
  ])

  it.prop(
    "are chosen by what they have in hand, but for a sixteenth",
    { size: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxCompared })), steps: Schema.Array(Step) },
    ({ size, steps }) => {
      const set = telling(Array.from({ length: size }, () => idle))
      const model = Array.from({ length: size }, () => ({ inHand: 0, workers: 4 }))
      for (const step of steps) {
        if ("requests" in step) {
          for (let index = 0; index < step.requests; index += 1) {
            const loads = model.map(({ inHand, workers }) => inHand / workers)
            const next = set.next(hasRoom, 0) ?? assert.fail("nobody was chosen")
            assert.isAtMost(loads[next] ?? assert.fail(), Math.min(...loads) * (1 + indifference) + 1e-9)
            const chosen = model[next] ?? assert.fail()
            chosen.inHand += 1
          }
        } else {
          const replica = step.replica % size
          const workers = step.workers + 1
          set.tell(replica, reporter, { ...step, workers }, 0)
          model[replica] = { inHand: step.running + step.queued, workers }
        }
      }
    }
  )

  it("get many in a row only when they have many in hand", () => {
    const changes = (running: number, requests: number) => {
      const set = telling([{ running }, { running }])
      const got = Array.from({ length: requests }, () => set.next(hasRoom, 0))
      return got.filter((replica, index) => index > 0 && replica !== got[index - 1]).length
    }
    assert.strictEqual(changes(0, 32), 31)
    assert.isBelow(changes(10_000, 5000), 20)
  })

  it("end a row when the one who told of them is gone", () => {
    const reporters = [{ isClosed: false, heardAt: -1 }, { isClosed: false, heardAt: -1 }]
    const set = setOf(2)
    reporters.forEach((from, index) => set.tell(index, from, { ...idle, running: 10_000 }, 0))
    const current = set.next(hasRoom, 0) ?? assert.fail()
    assert.strictEqual(set.next(hasRoom, 0), current)
    ;(reporters[current] ?? assert.fail()).isClosed = true
    assert.deepStrictEqual(shares(set, 10), [5, 5])
  })

  it("end a row when a load is told, and when somebody comes or goes", () => {
    const ends: ReadonlyArray<(set: ReplicaSet<number>, current: number) => void> = [
      (set, current) => set.tell(1 - current, reporter, idle, 0),
      (set) => set.add(2),
      (set, current) => set.delete(current)
    ]
    for (const end of ends) {
      const set = telling([{ running: 10_000 }, { running: 10_000 }])
      const current = set.next(hasRoom, 0) ?? assert.fail()
      assert.strictEqual(set.next(hasRoom, 0), current)
      end(set, current)
      assert.isTrue(Array.from({ length: 3 }, () => set.next(hasRoom, 0)).some((next) => next !== current))
    }
  })
})

describe("replicas that are silent", () => {
  it("are passed over from when they did not tell a load in time after a request, until they do", () => {
    const set = telling([{}, { running: 4, queued: 900 }])
    assert.deepStrictEqual(shares(set, 1, 1), [1, 0])
    assert.deepStrictEqual(shares(set, 1, silentMs), [1, 0])
    assert.deepStrictEqual(shares(set, 9, silentMs + 1), [0, 9])
    set.tell(0, reporter, { ...idle, running: 2, received: 2 }, silentMs + 2)
    assert.deepStrictEqual(shares(set, 1, silentMs + 2), [1, 0])
  })

  it("are tried with one request after a time, and again", () => {
    const set = telling([{}, { running: 4, queued: 900 }])
    assert.deepStrictEqual(shares(set, 1, 1), [1, 0])
    const tries = (now: number) => {
      set.tell(1, reporter, { ...idle, queued: 900 }, now)
      return shares(set, 5, now)
    }
    assert.deepStrictEqual(tries(silentMs + distrustMs), [0, 5])
    assert.deepStrictEqual(tries(silentMs + distrustMs + 1), [1, 4])
    assert.deepStrictEqual(tries(2 * distrustMs + silentMs), [0, 5])
    assert.deepStrictEqual(tries(2 * distrustMs + silentMs + 1), [1, 4])
  })

  it("are passed over when they no longer repeat what they told, if they ever did", () => {
    const set = telling([{}, { running: 4 }, { running: 8 }])
    set.tell(0, reporter, idle, 1000)
    set.tell(2, reporter, { ...idle, running: 7 }, 1000)
    assert.deepStrictEqual(shares(set, 1, 999 + maxBeatMs), [1, 0, 0])
    set.tell(0, reporter, idle, 1000)
    assert.deepStrictEqual(shares(set, 8, 1000 + maxBeatMs), [0, 5, 3])
    set.tell(0, reporter, idle, 1001 + maxBeatMs)
    assert.deepStrictEqual(shares(set, 4, 1001 + maxBeatMs), [4, 0, 0])
  })

  it("are not such as say anything else, also when that is not their load", () => {
    const own = { isClosed: false, heardAt: 0 }
    const set = setOf(2)
    set.tell(0, own, idle, 0)
    set.tell(0, own, idle, 0)
    set.tell(1, reporter, { ...idle, running: 4, queued: 900 }, 0)
    assert.deepStrictEqual(shares(set, 1, 1), [1, 0])
    own.heardAt = silentMs
    assert.deepStrictEqual(shares(set, 1, 2 * silentMs), [1, 0])
    assert.deepStrictEqual(shares(set, 1, 3 * silentMs - 1), [1, 0])
    assert.deepStrictEqual(shares(set, 1, 3 * silentMs), [0, 1])
    own.heardAt = 3 * silentMs
    // A row ends with what is told.
    set.tell(1, reporter, { ...idle, running: 4, queued: 901 }, 3 * silentMs)
    assert.deepStrictEqual(shares(set, 1, 3 * silentMs), [1, 0])
    assert.deepStrictEqual(shares(set, 1, 3 * silentMs + maxBeatMs), [0, 1])
  })

  it("are no better than others when all are", () => {
    const set = telling([{}, { running: 1 }])
    assert.deepStrictEqual(shares(set, 6, 1), [3, 3])
    assert.deepStrictEqual(shares(set, 6, 1 + silentMs), [3, 3])
  })

  it("are not such as were sent nothing, nor such as never told a load", () => {
    assert.deepStrictEqual(shares(telling([{}, {}]), 4, maxBeatMs + 1), [2, 2])
    const set = setOf(2)
    assert.deepStrictEqual([shares(set, 4), shares(set, 4, silentMs)], [[2, 2], [2, 2]])
  })

  it("have no turn either when the one who told of them is gone", () => {
    const first = { isClosed: false, heardAt: -1 }
    const set = setOf(3)
    set.tell(0, first, idle, 0)
    set.tell(1, reporter, { ...idle, running: 4, queued: 900 }, 0)
    assert.deepStrictEqual(shares(set, 3, 1), [2, 0, 1])
    first.isClosed = true
    set.tell(1, reporter, { ...idle, running: 4, queued: 900 }, silentMs)
    const [none, ...others] = shares(set, 30, silentMs + 1)
    assert.strictEqual(none, 0)
    assert.isAbove(Math.min(...others), 0)
  })

  it("are passed over in the middle of a row", () => {
    const set = telling([{ running: 10_000 }, { running: 10_000 }])
    const current = set.next(hasRoom, 1) ?? assert.fail()
    assert.strictEqual(set.next(hasRoom, silentMs), current)
    assert.strictEqual(set.next(hasRoom, 1 + silentMs), 1 - current)
  })
})

describe("replicas of which only some acknowledge requests", () => {
  const mixed = (...acknowledging: ReadonlyArray<boolean>): ReplicaSet<number> => {
    const set = setOf(acknowledging.length)
    acknowledging.forEach((does, index) => set.acknowledges(index, does))
    return set
  }
  const take = (set: ReplicaSet<number>, requests: number, must: boolean) =>
    Array.from({ length: requests }, () => set.next(hasRoom, 0, must))

  it("leave these to them where their senders count on it, and all have their turn of others", () => {
    const set = mixed(false, true, true)
    assert.isTrue(set.isMixed)
    const got = Array.from({ length: 12 }, (_, index) => set.next(hasRoom, 0, index % 2 === 0))
    assert.deepStrictEqual(got.filter((_, index) => index % 2 === 0), [1, 2, 1, 2, 1, 2])
    assert.deepStrictEqual(got.filter((_, index) => index % 2 === 1), [0, 1, 2, 0, 1, 2])
  })

  it("share them out by their load", () => {
    const set = mixed(false, true, true)
    set.tell(1, reporter, { ...idle, running: 4 }, 0)
    set.tell(2, reporter, idle, 0)
    assert.deepStrictEqual(take(set, 4, true), [2, 2, 2, 2])
    set.tell(1, reporter, { ...idle, running: 0 }, 0)
    assert.deepStrictEqual(take(set, 4, true), [1, 1, 1, 1])
  })

  it("get none beyond their room", () => {
    const set = mixed(false, true)
    assert.isUndefined(set.next((replica) => replica === 0, 0, true))
    assert.strictEqual(set.next((replica) => replica === 0, 0, false), 0)
  })

  it("take turns for all when all acknowledge them, or none does", () => {
    for (const does of [true, false]) {
      const set = mixed(does, does, does)
      assert.isFalse(set.isMixed)
      assert.deepStrictEqual(take(set, 6, true), [0, 1, 2, 0, 1, 2])
    }
  })

  it("are as many as are there, and as do so by now", () => {
    const set = mixed(true, false, true)
    set.delete(0)
    assert.deepStrictEqual(take(set, 2, true), [2, 2])
    set.acknowledges(1, true)
    set.acknowledges(2, false)
    set.acknowledges(7, true)
    assert.deepStrictEqual(take(set, 2, true), [1, 1])
    set.delete(1)
    assert.isFalse(set.isMixed)
    assert.deepStrictEqual(take(set, 2, true), [2, 2])
  })
})
